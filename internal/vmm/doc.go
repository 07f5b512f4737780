// Package vmm runs one virtual machine from its arguments to its exit.
//
// A [Machine] is a value: [Machine.Check] validates it, and [Machine.QEMUArgs] turns it
// into the arguments of QEMU, without side effects. [Start] runs it: one
// virtiofsd for each shared directory, then QEMU, then the handshake on QEMU's control
// link (QMP). The result, a [VM], gives access to the agent's byte link and the
// console, and returns the machine's end as an error value.
//
// # Links
//
// QEMU inherits its links as descriptors, so a running machine leaves no
// socket in any directory:
//
//	agent    socket pair   virtserialport "agent"; handed out by [VM.Port]
//	records  socket pair   virtserialport "agent-bulk", if there is one; [VM.Records]
//	qmp      socket pair   read until it ends, events are dropped
//	console  socket pair   read until it ends, into a ring and a bounded file
//	share i  connected to virtiofsd i, which inherits the listening end
//
// With [Options.Lasting] the agent's link, QMP and the console are sockets in a directory, on
// which QEMU listens: see [Adopt]. QEMU serves one connection of each after the other.
//
// # Who dies with whom
//
// The kernel kills QEMU when this process ends (Pdeathsig; the kernel ties it to the
// thread that forked, so one thread lives as long as the machine). A virtiofsd that
// maps user ids loses that setting when it changes its credentials. It ends with its
// connection instead: the connection exists before virtiofsd starts, and virtiofsd ends
// when the last holder (first this process, later QEMU) has closed it. If a virtiofsd
// ends early, the machine is ended too, because the guest would wait for its files for
// ever.
//
// With Options.Lasting nobody dies with this process. A record in the directory names the
// processes.
//
// # Not here
//
// The callers choose what a machine boots from, speak the protocol on the agent's link,
// and shut the guest down in order.
package vmm
