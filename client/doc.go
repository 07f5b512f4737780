// Package client speaks to one agent, over the relay's Unix socket
// ([Connect]) or over the byte link of a machine that boots ([Boot]).
//
//	c, err := client.Connect(ctx, "/run/machine.sock") // Or Machine.Client of package sandbox.
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	out, err := c.CommandContext(ctx, "uname", "-r").Output()
//	err = c.WriteFile(ctx, "/etc/motd", []byte("hello\n"), 0o644)
//	conn, err := c.DialContext(ctx, "tcp", "localhost:80") // From inside the guest.
//
// [Connect] is for a machine that serves a socket, [Boot] for a machine that starts under
// any monitor, and package sandbox for one that this program starts.
//
// Commands have the shape of package os/exec: [Client.Command] fills a [Cmd],
// whose Run, Start, Wait, Output and pipes behave as there. What differs is said
// where it does; most of it follows from three facts. The guest adds to the
// environment instead of replacing it, it searches a name in the guest's PATH,
// and it reports the end of a command only after the command's output has ended.
//
// Files have the shape of package os. A function of os is a method of [Client] with
// a context before its arguments: [Client.Open], [Client.Stat], [Client.Rename].
// The context of Open bounds all that is done with the [File]. Paths are the
// guest's; a relative one starts at its root. [Client.FS] has the same files for
// whatever takes an [io/fs.FS], and [FS.WithContext] gives it a context. Errors are
// a [*fs.PathError], or an [*os.LinkError] where there are two names, with a
// [*GuestError] inside that has the guest's error number.
//
// Connections have the shape of package net: [Client.DialContext] connects from
// inside the guest and fits where that of a [net.Dialer] does.
//
// What the agent is too old for fails with a [*GenerationError] before anything is
// sent.
//
// # Flow
//
// One goroutine reads the link and routes each frame by its id; one writes it,
// fairly among the sessions. Protocol generations up to 7 have no credit, so there
// is no way to ask the agent for less of one stream only. Therefore:
//
//	files        are asked for in pieces, at most 2 MiB of a file ahead of its
//	             reader, and written in pieces, at most 2 MiB without an answer
//	connections  queue 4 MiB for their reader (ConnLimit); then the link waits, for
//	             10 s at most (UnreadTimeout): a connection that is not read for
//	             so long is given up
//	commands     queue 1 MiB for each output (StreamLimit); then the link waits
//
// While the link waits, so does every other answer on it. A caller therefore reads
// what it asked for, or closes the pipe, which discards the rest; who cannot
// promise that has a link of its own from the relay. Whether clients of one relay
// wait for each other is up to the relay: the agent's own sessions do not.
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
// table.mu guards the ids in use, process.mu one command, stream.mu one stream,
// Conn.mu one connection, upload.mu and direct.mu one piece of a file. None is held
// while another is taken, nor while the link or a caller is waited for. File.mu is
// held by who uses a file's position, File.dirMu by who lists a directory and
// Conn.writing by who writes, each for as long as that takes; a deadline's mu while
// it sets a stopChan.
//
// # Stability
//
// This is version 0: names and behaviour may change with each 0.x release. CHANGELOG.md
// names each change and what to write in its place; a patch release changes none. The
// package speaks to every agent of protocol generation 1 and above, and so will later
// versions.
package client
