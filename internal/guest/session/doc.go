// Package session has what every session needs, which is what runs on one correlation
// id: a queue towards the host and one from it.
//
// The agent's loop calls the methods of a session; none of them waits. What a
// session does happens on goroutines of its own, and what holds it up (a child
// or peer that does not read, a host that does not, a mount that is dead) holds
// up nobody else: input waits in a bounded inbox, then in an unnamed file; output
// waits in a bounded outbox, which stops the reading of the child's pipe, the
// socket or the file.
//
// Commands, operations on files and connections are packages below this one, which do not
// know each other. Each of their sessions embeds a [Base]; those that move bytes embed a
// [Stream]. The agent gives a session what comes for it by Message, Data and Record.
//
// # Raw records
//
// The bytes of a [Stream] are raw records if its request offered that, and data messages
// if not. A flow.Receiver judges those into the guest, which wait in the session's
// inbox, and grants credit when they have been written; a flow.Sender makes the frames of
// the session's [Pump], which reads no more than the host has granted.
//
// # Locks
//
// A wrong record ends its session under Stream.arrival, so the session's own lock and the
// inbox's come after it. A session's Detach is called under the agent's lock and takes
// only the session's own; the functions of an [Ending] take the agent's, and none of ours
// is held then.
package session
