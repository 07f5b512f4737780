// Package agent is the loop between the port and the sessions: it reads frames,
// answers what concerns the machine itself and gives the rest to the session
// that it belongs to. The loop never waits for a session, but for the moments of
// mux.Inbox.Pace.
//
// # The link's life
//
//	Open ── Bootstrap ──▶ Greet ──▶ Serve ──▶ End
//	              (only a host of generation 7 sends one)
//
// One reader owns the bytes from the host all that time, so frames that arrive
// together are all seen, in whatever phase they arrive.
//
// Between the boot and Serve a second port may be bound (second.go), which carries raw
// records alone and has a reader and a writer of its own.
//
// # What a frame can end
//
// A frame whose length breaks the rule ends the link, because nothing tells
// where the next one begins. Anything else that is wrong with a frame ends at
// most its own id: it is answered with core.error where the sender understands
// that (generation 5), and dropped where not.
package agent
