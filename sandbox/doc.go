// Package sandbox assembles a whole machine, starts it and returns a client of the
// agent in it.
//
// A machine is a kernel, a root directory and the agent. [Start] supplies what the
// [Config] does not name: the default kernel of the cache, a private copy of a small
// root with busybox, and the agent that is built into the program.
//
//	m, err := sandbox.Start(ctx, sandbox.Config{})
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	out, err := m.Client().Command("uname", "-a").Output()
//
// [Machine.Client] gives access to commands, files and connections in the machine; see
// package client. [Machine.Shutdown] ends the machine, [Machine.Kill] does so at once,
// and [Machine.Wait] returns how it ended. A machine ends with the program that started
// it.
//
// A [Pool] keeps machines ready for programs that need them at once.
//
// Kernels and images are in a [Cache]: the user's, or one of the program's own. The
// first machine needs a kernel there: run "agentctl kernel fetch" or
// [Cache.FetchKernel]. [Supported] reports what a host lacks.
//
// The caller's root directory is shared without a copy: the machine's writes stay
// there, including those of the boot (etc/hosts, etc/hostname, etc/profile and the
// mount points). An emulated machine may miss changes that others make in that
// directory while it runs, because its kernel may cache what it has read.
//
// # What a machine can have
//
// [Config.Image] boots a container image in place of a root directory: it becomes a
// read-only disk, and [Config.Upper] takes the writes. [Config.Mounts] show directories of
// this host, [Config.Disks] attach disk images, and [Config.Network] gives a network card.
// [Config.Socket] lets other programs connect to the machine while it runs (client.Connect).
// [Config.Init] makes another program the first process, with the agent beside it.
//
// # Saved machines
//
// An emulated machine starts from a template where its configuration allows that; with
// hardware virtualization it boots unless [Config.Warm] asks for a template. A template is
// the memory of a machine that waits for its configuration. [Machine.Pause] saves a running
// machine and frees its memory, and [Machine.Resume] continues it. [Machine.Snapshot] saves a
// copy and lets the machine go on. [Clone] and [Restore] make machines of a snapshot, in this
// program or a later one.
// docs/SNAPSHOTS.md says what such a machine shares with others and what is renewed.
//
// # Stability
//
// This is version 0: names and behaviour may change with each 0.x release. CHANGELOG.md
// names each change and what to write in its place; a patch release changes none.
package sandbox
