// Package session has the parts that all kinds of sessions share. A session is the work
// on one correlation id. It has a queue to the host and may have one from the host.
//
// The agent's loop calls the methods of a session; none of them waits. A session works
// on goroutines of its own. A child, a peer or a host that does not read, or a dead
// mount, blocks these goroutines only. Input waits in a bounded inbox, then in an unnamed
// file. Output waits in a bounded outbox; a full outbox stops the reading of the child's
// pipe, the socket or the file.
//
// The packages exec, files and tcp below this one have the kinds of sessions. They do not
// import each other. Every session embeds a [Base]; files and connections, whose bytes may
// move as raw records, embed a [Stream]. The agent passes a session its frames by Message,
// Data and Record.
//
// # Raw records
//
// The bytes of a [Stream] are raw records if its request offered that, and data messages
// if not. Into the guest, a flow.Receiver checks the records, the session's inbox holds
// them, and credit is granted when they have been written. To the host, a flow.Sender
// makes the frames of the session's [Pump], which reads no more than the host has granted.
//
// # Locks
//
// An invalid record ends its session while Stream.arrival is held, so the locks of the
// session and of the inbox come after that lock. The agent calls Detach under its own lock;
// Detach takes only the session's locks. The functions of an [Ending] take the agent's
// lock; no lock of this package is held then.
package session
