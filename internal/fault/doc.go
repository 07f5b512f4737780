// Package fault makes the system calls of a program fail, one at a time, to test how
// the program reacts.
//
// A seccomp filter with a listener (seccomp_unotify(2)) stops the calls: the kernel
// itself refuses the chosen one, so the tested code needs no test hook. [Nth] watches a
// function of this process. The program in the directory init is a first process that
// starts the real one with a failing call.
//
// It counts the calls on files, mounts and the network. It does not count the runtime's
// calls (memory, threads, polling), close(2), whose errors leave nothing to undo, and
// writes to standard error, by which a program reports a fault.
//
// Only tests import it, and only on x86-64, whose system call numbers it uses.
package fault
