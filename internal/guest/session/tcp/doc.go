// Package tcp makes connections from inside the guest for hosts.
//
// # States of a connection
//
//	connecting ── connected ──▶ open ── both halves ended ── closed ──▶ over
//	    │                        └── either half breaks ── failed ────▶ over
//	    └── failed ─────────────────────────────────────────────────────▶ over
//
// Bytes that the host sends before the connection is open wait for it. Each half has a
// goroutine of its own, so that neither waits for the other.
package tcp
