// Package tcp makes connections from inside the guest for hosts, and listens there for them.
//
// # States of a connection
//
//	connecting ── connected ──▶ open ── both halves ended ── closed ──▶ over
//	    │                        └── either half breaks ── failed ────▶ over
//	    └── failed ─────────────────────────────────────────────────────▶ over
//
// A connection of a [Listener] has the same states: it connects by waiting for a peer. Bytes
// that the host sends before the connection is open wait for it. Each half has a goroutine of
// its own, so that neither waits for the other.
package tcp
