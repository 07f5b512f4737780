// Package agent is the loop between the port and the sessions. It reads frames,
// answers requests about the machine itself and passes all other frames to their
// sessions. The loop never waits for a session, except for the few milliseconds of
// mux.Inbox.Pace.
//
// # The link's life
//
//	Open ── Bootstrap ──▶ Greet ──▶ Serve ──▶ End
//	              (only a host of generation 7 sends one)
//
// One reader owns the bytes from the host in all phases, so no frame is lost that
// arrives together with another.
//
// Between the boot and Serve a second port may be bound (second.go). It carries only raw
// records, and has a reader and a writer of its own.
//
// # What a frame can end
//
// A frame with an impossible length ends the link, because the next frame cannot be
// found. Any other fault of a frame ends at most the session on its id. The answer is
// core.error if the sender understands that (generation 5); otherwise the frame is
// dropped.
package agent
