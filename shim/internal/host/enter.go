package host

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// EnterNetwork moves this whole process, and what it starts from then on, into the
// network namespace that has the given path where origin leads; "" is a new
// one. It works in programs without C code alone, where the runtime owns every thread.
func EnterNetwork(origin Origin, path string) error {
	ns, err := openNetwork(origin, path)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETNS, ns.Fd(), unix.CLONE_NEWNET, 0); errno != 0 {
		return fmt.Errorf("network namespace %q: %w", path, errno)
	}
	return nil
}

// openNetwork works on a thread that ends in the namespaces that it enters. The mounts
// of this process do not have what was mounted after its start, where the host's are
// private.
func openNetwork(origin Origin, path string) (ns *os.File, err error) {
	err = OnThread(func() (err error) {
		if path == "" {
			path = "/proc/thread-self/ns/net"
			err = unix.Unshare(unix.CLONE_NEWNET)
		} else {
			err = origin.enter()
		}
		if err == nil {
			ns, err = os.Open(path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return ns, nil
}
