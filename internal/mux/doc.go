// Package mux shares one frame link among many sessions.
//
// Outward, every session owns an [Outbox] and one [Writer] serves them all. An Outbox
// is bounded: a session whose host reads slowly waits in [Outbox.Send], and with it the
// pipe, file or socket that it reads from. The Writer is fair by bytes (deficit round
// robin). It serves sessions that have just begun to send before those that send for
// longer, so a short answer passes a flood. Frames of one session never change their
// order.
//
// Inward, the goroutine that reads the link must never wait for a session. It puts each
// frame's bytes into the session's [Inbox], which holds a bounded amount in memory and,
// if the session has a [Storage], a bounded amount there.
//
// Bounds: all outboxes together hold at most the Writer's limit plus one frame a
// session; all inboxes together hold at most the [Budget] in memory.
//
// Locks: Writer.mu guards every Outbox of that Writer; Inbox.mu guards one Inbox. No
// goroutine holds one while it waits for the link, a storage or a session, except that
// an Inbox accesses its storage under its own lock.
package mux
