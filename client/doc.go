// Package client speaks to one agent, over the relay's Unix socket ([Dial]) or
// over any byte link whose boot handshake is done ([New]).
//
// Commands have the shape of package os/exec: [Client.Command] fills a [Cmd],
// whose Run, Start, Wait, Output and pipes behave as there. What differs is said
// where it does; most of it follows from three facts. The guest adds to the
// environment instead of replacing it, it searches a name in the guest's PATH,
// and it reports the end of a command only after the command's output has ended.
//
// # Flow
//
// One goroutine reads the link and routes each frame by its id; one writes it,
// fairly among the sessions. Output goes into a queue for each stream of each
// command, which holds [StreamLimit] bytes. Protocol generations up to 7 have no
// credit, so there is no way to ask the agent for less of one stream only: when
// a queue is full, the reading goroutine waits for its consumer, and with it
// every other answer on this link. A caller therefore reads what it asked for,
// or closes the pipe, which discards the rest. Whether clients of one relay wait
// for each other is up to the relay: the agent's own sessions do not.
//
// # Ends
//
// A terminal frame ends its id. A frame that cannot be decoded or that has no
// place in its session ends that session only, with a [*FrameError]; a command
// gets signal 9 then, because nobody would hear of it again. The end of the link
// ends everything with a [*LinkError], and Close with [ErrClosed].
//
// # Locks
//
// table.mu guards the ids in use, process.mu one command, stream.mu one stream.
// None is held while another is taken, nor while the link or a caller is waited
// for.
package client
