// Package mux shares one frame link among many sessions.
//
// Outward, every session owns an [Outbox] and one [Writer] serves them all. An
// Outbox is bounded: a session whose host reads slowly waits in [Outbox.Send],
// and with it the pipe, file or socket that it reads from. The Writer is fair
// by bytes (deficit round robin) and serves sessions that just began to speak
// before those that have been speaking for a while, so a short answer passes a
// flood. Frames of one session never change their order.
//
// Inward, the goroutine that reads the link must never wait for a session. It
// puts what it read into the session's [Inbox], which holds a bounded amount in
// memory and, when the session has a [Storage], a bounded amount more there.
//
// What is held at most: the sum over all outboxes stays below the Writer's
// limit plus one frame a session, the sum over all inboxes below the [Budget].
//
// Locks: Writer.mu guards every Outbox of that Writer; Inbox.mu guards one
// Inbox. Neither is held while the link, a storage or a session is waited for,
// except that an Inbox writes its storage under its own lock.
package mux
