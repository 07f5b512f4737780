// Package session holds what runs on one correlation id: one type for each kind
// of session, each with a queue towards the host and one from it.
//
// The agent's loop calls the methods of a session; none of them waits. What a
// session does happens on goroutines of its own, and what holds it up (a child
// or peer that does not read, a host that does not, a mount that is dead) holds
// up nobody else: input waits in a bounded inbox, then in an unnamed file; output
// waits in a bounded outbox, which stops the reading of the child's pipe, the
// socket or the file.
//
// An [Exec] is a command, a [TCP] a connection, a [Read] or [Write] the moving of
// a file's contents, a [Request] any other operation on files. What a client has
// open among sessions are handles, in [Files].
//
// # States of an exec session
//
//	starting ── exec ──▶ running ── both outputs at EOF and child reaped ──▶ over
//	    └── refused ────────────────────────────────────────────────────────▶ over
//
// Signals and resizes that come while it is starting are kept for the moment it
// runs. The one terminal frame is sent on the way to over; the id is free for
// the host again from then on, so the agent forgets the session just before.
//
// # Raw records
//
// A [Read], [Write] or [TCP] is a [Carrier]: its bytes are raw records if its request
// offered that, and data messages if not. A flow.Receiver judges those into the guest,
// which wait in the session's inbox, and grants credit when they have been written; a
// flow.Sender makes the frames of the session's pump, which reads no more than the host
// has granted.
//
// # States of a connection
//
//	connecting ── connected ──▶ open ── both halves ended ── closed ──▶ over
//	    │                        └── either half breaks ── failed ────▶ over
//	    └── failed ─────────────────────────────────────────────────────▶ over
//
// What the host sends meanwhile waits for the connection. The two halves are two
// goroutines, so that neither waits for the other.
//
// # Locks
//
// Files.mu guards all handles and clients; handle.pos guards one file's own
// position, and Files.mu may be taken under it but not the other way round. A slip
// ends its session under stream.arrival, so the session's own lock and the inbox's come
// after it. A session's Detach is called under the agent's lock and takes only the
// session's own; the functions of an [Ending] take the agent's, and none of ours is
// held then.
package session
