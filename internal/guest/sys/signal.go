package sys

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// endings are the signals by which root in the guest could end a Go program; the end of
// PID 1 would end the machine. SIGCHLD and the runtime's own SIGURG and SIGPROF are not
// among them.
var endings = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE,
	unix.SIGUSR1, unix.SIGSEGV, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGIO,
	unix.SIGPWR, unix.SIGSYS,
}

// Outlive makes the process survive every signal that another process can send it. It
// catches the signals and does not ignore them: a child starts with the default for a
// caught signal, but would inherit an ignored one.
func Outlive() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, endings...)
	_ = outliveUnhandled() // Only a seccomp filter can refuse it; nothing is changed then.
	go func() {
		for range c { // Discard them.
		}
	}()
}

// KillAll sends SIGKILL to every process but this one.
func KillAll() error { return Kill(-1, int(syscall.SIGKILL)) }
