// Package exec runs the commands of hosts, from the request to the end of the command
// and of its output.
//
// # States of a session
//
//	starting ── exec ──▶ running ── both outputs at EOF and child reaped ──▶ over
//	    └── refused ────────────────────────────────────────────────────────▶ over
//
// Signals and resizes that come during the start are applied when the command runs. The
// one terminal frame is sent on the way to over. The host may use the id again from then
// on, so the agent forgets the session just before.
package exec
