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
// A root directory that the caller names is shared as it is: what the machine
// writes is there afterwards, among it what the boot writes (etc/hosts,
// etc/hostname, etc/profile and the mount points). An emulated machine need not see
// what others change in that directory while the machine runs: its kernel may keep
// what it has read.
package sandbox
