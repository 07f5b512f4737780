// Package fault makes the system calls of a program fail, one at a time, to see
// what the program does then.
//
// The calls are stopped by a seccomp filter with a listener (seccomp_unotify(2)):
// the kernel itself says no to the one that is meant, and what is tested needs no
// seam for it. [Nth] watches a function of this process; cmd of this package's
// directory init is a first process that starts a real one with a call that fails.
//
// Counted are the calls on files, mounts and the network. Left out are those of
// the runtime (memory, threads, polling), close(2), whose errors leave nothing to
// undo, and writes to standard error, which are how a program tells of a fault.
//
// Only tests import it, on x86-64: the numbers of system calls are its.
package fault
