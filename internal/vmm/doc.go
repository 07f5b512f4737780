// Package vmm runs one virtual machine from its arguments to its exit.
//
// A [Machine] is a value: [Machine.Check] judges it, [Machine.QEMUArgs] turns
// it into the arguments of qemu-system-x86_64 and touches nothing. [Start]
// runs it: one virtiofsd for each shared directory, then QEMU, then the
// handshake on QEMU's control link (QMP). The result, a [VM], is the agent's
// byte link, the console, and the end as an error value.
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
// # Who dies with whom
//
// QEMU is killed by the kernel when this process ends (Pdeathsig, which the
// kernel ties to the thread that forked, so one thread lives as long as the
// machine). A virtiofsd that maps user ids loses that setting when it changes
// its credentials; its life hangs on the connection instead: the connection
// exists before it starts, and virtiofsd ends when its last holder (this
// process first, QEMU later) is gone. A virtiofsd that ends early takes its
// machine with it, because the guest would wait for its files for ever.
//
// # Not here
//
// What a machine boots from, what is said over the agent's link, and how a
// guest is shut down politely: all of this belongs to the callers.
package vmm
