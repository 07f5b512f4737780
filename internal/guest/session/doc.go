// Package session holds what runs on one correlation id: one type for each kind
// of session, each with a queue towards the host and one from it.
//
// The agent's loop calls the methods of a session; none of them waits. What a
// session does happens on goroutines of its own, and what holds it up (a child
// that does not read, a host that does not) holds up nobody else: input waits in
// a bounded inbox, then in an unnamed file; output waits in a bounded outbox,
// which stops the reading of the child's pipe.
//
// # States of an exec session
//
//	starting ── exec ──▶ running ── both outputs at EOF and child reaped ──▶ over
//	    └── refused ────────────────────────────────────────────────────────▶ over
//
// Signals and resizes that come while it is starting are kept for the moment it
// runs. The one terminal frame is sent on the way to over; the id is free for
// the host again from then on, so the agent forgets the session just before.
package session
