// Package tcp has the connections that hosts ask for from inside the guest.
//
// # States of a connection
//
//	connecting ── connected ──▶ open ── both halves ended ── closed ──▶ over
//	    │                        └── either half breaks ── failed ────▶ over
//	    └── failed ─────────────────────────────────────────────────────▶ over
//
// What the host sends meanwhile waits for the connection. The two halves are two
// goroutines, so that neither waits for the other.
package tcp
