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
// whose Run, Start, Wait, Output and pipes behave as there. Differences are documented at
// each field and method. Most of them follow from three facts. The guest adds to the
// environment instead of replacing it. It searches a name in the guest's PATH. And it
// reports the end of a command only after the command's output has ended.
//
// A command with a [Keep] goes on without its client. [Client.Attach] is a Cmd for such a
// command, and [Follow] copies its outputs over as many links as it takes. A [Reconnector]
// connects again when its link ends, and carries kept commands, files and listeners over.
//
// Files have the shape of package os. A function of os is a method of [Client] with
// a context before its arguments: [Client.Open], [Client.Stat], [Client.Rename].
// The context of Open bounds all operations on the [File]. Paths are the
// guest's; a relative one starts at its root. [Client.FS] has the same files for
// functions that take an [io/fs.FS], and [FS.WithContext] gives it a context. Errors are
// a [*fs.PathError], or an [*os.LinkError] for two names, with a
// [*GuestError] inside that has the guest's error number.
//
// Connections have the shape of package net: [Client.DialContext] connects from
// inside the guest and has the signature of [net.Dialer.DialContext].
//
// A call for which the agent is too old fails with a [*GenerationError] before anything is
// sent.
//
// # Flow
//
// One goroutine reads the link and routes each frame by its id. Another one writes to it,
// fairly among the sessions. Data messages have no credit, so a client cannot slow down
// one stream alone. Therefore:
//
//	files        are asked for in pieces, at most 2 MiB of a file ahead of its
//	             reader, and written in pieces, at most 2 MiB without an answer
//	connections  queue 4 MiB for their reader (ConnLimit); then the link waits, for
//	             10 s at most (UnreadTimeout): a connection that is not read for
//	             so long is given up
//	commands     queue 1 MiB for each output (StreamLimit); then the link waits
//
// Agents of generation 8 and later move the contents of large files and of connections as
// raw records, with credit for each: bytes that are not read here wait in the guest, and
// nothing else waits (see [Bulk]). Commands' outputs have no credit in any generation.
//
// While the link waits, every other answer on it waits too. So read what you have asked
// for, or close the pipe, which discards the rest. If you cannot guarantee that, open a
// separate client through the relay. Whether clients of one relay wait for each other
// depends on the relay; the agent's sessions do not.
//
// # Ends
//
// A terminal frame ends its id. A frame that cannot be decoded, or that is out of place in
// its session, ends that session only, with a [*FrameError]; a command gets signal 9 then,
// because its end could not be received any more. The end of the link ends everything with
// a [*LinkError], and Close ends everything with [ErrClosed].
//
// # Locks
//
// table.mu guards the ids in use, process.mu one command, stream.mu one stream,
// Conn.mu one connection, upload.mu and direct.mu one piece of a file. None is held
// while another is taken, or during a wait for the link or a caller. Three locks are held
// for a whole operation: File.mu while a file's position is used, File.dirMu while a
// directory is listed, and Conn.writing during a Write. A deadline's mu is held while it
// sets a stopChan. replay.mu guards the input of one command, and comeback.mu its way from
// link to link; neither is held during another wait or lock. ResumedFile.mu is held for a
// whole operation, before File.mu. A Reconnector's busy is held while it connects.
//
// # Stability
//
// This is version 0: names and behaviour may change with each 0.x release. CHANGELOG.md
// names each change and what to write in its place; a patch release changes none. The
// package speaks to every agent of protocol generation 1 and above, and so will later
// versions.
package client
