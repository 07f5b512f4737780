package sys

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// endings are the signals by which root in the guest could end a Go program: as
// PID 1 that would end the machine. SIGCHLD and the runtime's own SIGURG and
// SIGPROF are not among them.
var endings = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE,
	unix.SIGUSR1, unix.SIGSEGV, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGIO,
	unix.SIGPWR, unix.SIGSYS,
}

// Outlive makes the process survive every signal that another one can send it,
// as init does. The signals are caught and not ignored: children start with the
// default for a caught one and would inherit an ignored one.
func Outlive() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, endings...)
	_ = outliveUnhandled() // Only a seccomp filter can refuse it: then it is as it was.
	go func() {
		for range c { // There is nothing to do about them.
		}
	}()
}

// KillAll sends SIGKILL to every process but this one.
func KillAll() error { return Kill(-1, int(syscall.SIGKILL)) }
