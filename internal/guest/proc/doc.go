// Package proc owns every child of agentd: it starts them, signals them and
// reaps them, and nothing else in the program does.
//
// # Why not os/exec
//
// PID 1 must take the end of every orphan with wait4(-1). Beside that, a
// package that waits for its own children loses their exit codes to the reaper.
// Here one lock is held from before a child exists until it is registered, and
// by the reaper while it takes ends, so that no end is lost however fast.
//
// # The spawner
//
// Children are started by one goroutine locked to one thread where two of
// their properties matter, which belong to the starting thread: the working directory (it is
// changed before the user is, so a directory that the user cannot enter works)
// and the restricted profile (no_new_privs, capabilities). Resource limits of a
// single command belong to a process; only for those agentd executes itself
// once more in between (see [Relay]). Where nothing of that is asked for, the caller's
// own thread starts the child, one at a time: what hangs keeps one thread and leaves
// the spawner to the others.
//
// # States of a child
//
//	running ── reaped ──▶ ended ── Release ──▶ forgotten
//
// Running: signals go to the group. Ended: the leader is gone, descendants in
// its group may live; signals still go to the group, but not once another process has
// its number. Forgotten: the number may
// belong to somebody else, signals do nothing.
//
// Lock order: Table.forking, then Table.mu. A start that hangs before its fork
// holds up further starts; one that hangs in it holds forking too, and with it the
// taking of ends, but not signals: mu is never held while anything is waited for.
package proc
