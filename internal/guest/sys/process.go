package sys

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Infinity is no limit (RLIM_INFINITY, getrlimit(2)).
const Infinity = ^uint64(0)

// SetLimit sets a resource limit of this process and of the children it starts
// from now on. It goes through package syscall, whose Setrlimit makes the
// runtime forget the NOFILE limit that it would otherwise restore in children.
func SetLimit(resource int, soft, hard uint64) error {
	lim := syscall.Rlimit{Cur: soft, Max: hard}
	if err := syscall.Setrlimit(resource, &lim); err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	return nil
}

// Limit returns a resource limit of this process.
func Limit(resource int) (soft, hard uint64, err error) {
	var lim syscall.Rlimit
	err = syscall.Getrlimit(resource, &lim)
	return lim.Cur, lim.Max, os.NewSyscallError("getrlimit", err)
}

// SealDescriptors makes all descriptors but the standard ones close-on-exec: the program
// that started agentd may have left more open, and no child may inherit them.
func SealDescriptors() error {
	const first = 3
	err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	// Kernels before 5.11 lack it. They start agentd with nothing else open.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return os.NewSyscallError("close_range", err)
}

// Exited is one child's end, as wait4(2) reports it.
type Exited struct {
	PID    int
	Status syscall.WaitStatus
}

// Reap reaps any ended child without waiting; ok is false if none has ended. It must be
// called from one place only: the kernel reports each end once.
func Reap() (e Exited, ok bool) {
	pid, err := retry(func() (int, error) {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		e.Status = syscall.WaitStatus(status)
		return pid, err
	})
	e.PID = pid
	return e, err == nil && pid > 0
}

// Kill sends a signal to a process, to the group -pid if negative, or with -1
// to every process but this one and init. A receiver that is gone is no error.
func Kill(pid, signal int) error {
	if err := unix.Kill(pid, unix.Signal(signal)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send signal %d to %d: %w", signal, pid, err)
	}
	return nil
}

// IsProcess reports whether a process has the number, and not only a process group.
func IsProcess(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// Restrict puts the calling thread under the restricted profile: it cannot gain privileges
// any more and loses CAP_SYS_ADMIN for good. Processes that it starts inherit that. The
// caller must be locked to its thread.
func Restrict() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("drop CAP_SYS_ADMIN from the bounding set: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // Capabilities 0–31, 32–63.
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	const admin = 1 << unix.CAP_SYS_ADMIN
	data[0].Effective &^= admin
	data[0].Permitted &^= admin
	data[0].Inheritable &^= admin
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop CAP_SYS_ADMIN: %w", err)
	}
	return nil
}

// OwnDirectory gives the calling thread a working directory of its own, which
// the processes that it starts inherit. The caller must be locked to its thread.
func OwnDirectory() error {
	return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FS))
}

// Chdir changes the working directory of the calling thread (after
// OwnDirectory) or of the process.
func Chdir(dir string) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, unix.Chdir(dir) })
	return err
}

// Device returns the device number of the file system of a name, 0 if there is no such file.
func Device(name string) uint64 {
	var st unix.Stat_t
	_ = again(func() error { return unix.Stat(name, &st) }) // No file system has number 0.
	return st.Dev
}

// Reach looks the file up and opens it if it is a program, so that a wait for a file
// system that does not answer happens here. A fork would wait too. But until the child has
// executed the program, the runtime can neither use that processor nor stop the thread, so
// the next garbage collection would make all other threads wait. Errors of the file itself
// are left to the fork. A file on the device near is not opened: everything else waits for
// that device too, and an open can cost three requests to a server. The error says why no
// file was found.
func Reach(name string, near uint64) error {
	var st unix.Stat_t
	err := again(func() error { return unix.Stat(name, &st) })
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Dev == near {
		return err
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err == nil {
		_ = unix.Close(fd) // Nothing was written.
	}
	return nil
}

// ReserveThreads makes the runtime own at least n threads; it keeps idle threads for ever.
// If the runtime needs a thread later and a fork bomb has taken all process ids, the
// process ends.
func ReserveThreads(n int) {
	var all, done sync.WaitGroup
	all.Add(n)
	done.Add(n)
	for range n {
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait() // Each goroutine holds its thread until all have one.
		}()
	}
	done.Wait()
}

// SetName sets the process's name in /proc/PID/comm, of at most 15 bytes. It writes that
// file instead of calling prctl(2), which would name the calling thread: the process has
// the name of its first thread.
func SetName(name string) error {
	const ownName = "/proc/self/comm"
	return put(ownName, name)
}

// Exec replaces this process's program; it returns only on failure.
func Exec(path string, argv, env []string) error { return syscall.Exec(path, argv, env) }

// TempFile returns an open file without a name in dir.
func TempFile(dir string) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	})
	if err == nil {
		return os.NewFile(uintptr(fd), "unnamed file"), nil
	}
	// Not every file system has O_TMPFILE (open(2): EOPNOTSUPP, EISDIR).
	f, err := os.CreateTemp(dir, ".agentd-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// IsMainThread reports whether the calling thread is the process's first one, the one
// that /proc/PID/status describes. The answer holds while the thread is locked.
func IsMainThread() bool { return unix.Gettid() == unix.Getpid() }
