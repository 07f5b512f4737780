// Package sandbox puts a whole machine together, starts it and gives back a
// client of the agent in it.
//
// A machine is a kernel, a root directory and the agent. [Start] finds or makes
// what the [Config] leaves open: the default kernel of the cache, a private copy
// of a small root with busybox, the agent that is built into the program.
//
//	m, err := sandbox.Start(ctx, sandbox.Config{})
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	out, err := m.Client().Command("uname", "-a").Output()
//
// [Machine.Client] is the way into the machine: commands, files and connections, see
// package client. [Machine.Shutdown] ends the machine, [Machine.Kill] does so at once,
// and [Machine.Wait] says how it ended. A machine belongs to the program that started
// it, and ends with it.
//
// Kernels and images are in a [Cache], the user's or one of the program's own. Before
// the first machine, a kernel must be there: "agentctl kernel fetch", or
// [Cache.FetchKernel]. [Supported] says what a host lacks.
//
// A root directory that the caller names is shared as it is: what the machine
// writes is there afterwards, among it what the boot writes (etc/hosts,
// etc/hostname, etc/profile and the mount points). An emulated machine need not see
// what others change in that directory while the machine runs: its kernel may keep
// what it has read.
//
// # Stability
//
// This is version 0: names and behaviour may change with each 0.x release. CHANGELOG.md
// names each change and what to write in its place; a patch release changes none.
package sandbox
