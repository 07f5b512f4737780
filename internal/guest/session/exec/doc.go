// Package exec runs the commands of hosts: from a request to the end of the command and
// of its output.
//
// # States of a session
//
//	starting ── exec ──▶ running ── both outputs at EOF and child reaped ──▶ over
//	    └── refused ────────────────────────────────────────────────────────▶ over
//
// Signals and resizes that come while it is starting are kept for the moment it
// runs. The one terminal frame is sent on the way to over; the id is free for
// the host again from then on, so the agent forgets the session just before.
package exec
