// Package proc owns every child of agentd: it starts them, signals them and
// reaps them, and nothing else in the program does.
//
// # Why not os/exec
//
// PID 1 must reap every orphan with wait4(-1). A package that waits for its own children
// beside that loses their exit codes to the reaper. Here one lock is held from before a
// child exists until it is registered, and by the reaper while it reaps. So no end is lost,
// however fast it comes.
//
// # The spawner
//
// The spawner is one goroutine locked to one thread. A child inherits two properties of its
// starting thread: the working directory (it is changed before the user is, so a directory
// that the user cannot enter works) and the restricted profile (no_new_privs,
// capabilities). The spawner's thread has both of them. Resource limits of a single command
// belong to a process; only for those agentd executes itself once more in between (see
// [Launch]). A child that needs none of these starts from its caller's thread. Only one such
// start runs at a time, so a hung start costs one thread and never blocks the spawner.
//
// # States of a child
//
//	running ── reaped ──▶ ended ── Release ──▶ forgotten
//
// Running: signals go to the process group. Ended: the leader is gone, but descendants in
// its group may live; signals still go to the group, until another process has its number.
// Forgotten: the number may belong to another process, so signals do nothing.
//
// Lock order: Table.forking, then Table.mu. A start that hangs before its fork blocks
// further starts. A start that hangs in its fork holds forking, so it blocks reaping too.
// It does not block signals: mu is never held during a wait.
package proc
