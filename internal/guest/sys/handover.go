package sys

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// SocketPair returns two connected stream sockets: ours waits in the poller,
// theirs blocks. Neither survives an execution.
func SocketPair() (ours, theirs *os.File, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, err = polled(p[0], "socket")
	return ours, os.NewFile(uintptr(p[1]), "socket"), err
}

// FD is the descriptor of the root, for a child to inherit.
func (r *Root) FD() uintptr { return uintptr(r.fd) }

// InheritRoot is the root that another process has opened as descriptor fd.
func InheritRoot(fd uintptr) *Root { return &Root{fd: int(fd)} }

// FD is the descriptor of the port, for a child to inherit.
func (p *Port) FD() uintptr { return uintptr(p.fd) }

// InheritPort is the port that another process has opened as descriptor fd.
func InheritPort(fd uintptr) *Port { return newPort(int(fd), "port") }

// Pristine prepares the signals for the next program of this process: all are default, and
// none is blocked in the calling thread, which must be locked. exec resets caught signals
// to the default, so Pristine catches all; an ignored signal would stay ignored.
func Pristine() error {
	signal.Notify(make(chan os.Signal, 1)) // All of them.
	var none unix.Sigset_t
	return os.NewSyscallError("sigprocmask", unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil))
}

// Terminations returns a channel that gets each SIGTERM sent to this process.
func Terminations() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM)
	return c
}

// NotExecutable says why the kernel would not execute the file path, or returns nil. It
// follows links, as execve(2) does. The kernel may still refuse the file's content.
func NotExecutable(path string) error {
	st, err := Stat(path, true)
	if err != nil {
		return err
	}
	const anyExecute = 0o111
	switch {
	case st.Type() == unix.S_IFDIR:
		return unix.EISDIR
	case st.Type() != unix.S_IFREG:
		return errors.New("not a regular file")
	case st.Mode&anyExecute == 0:
		return fmt.Errorf("not executable (mode %04o)", st.Mode&0o7777)
	}
	// A mount with noexec is left for the kernel to refuse.
	if err := again(func() error { return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) }); err != nil {
		return fmt.Errorf("not executable where it is mounted: %w", err)
	}
	return nil
}

// NotDirectory says why path, links followed, is no directory, or nil.
func NotDirectory(path string) error {
	st, err := Stat(path, true)
	if err == nil && st.Type() != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	return err
}

// A Score is the priority of this process for the kernel's OOM killer.
type Score struct{ f *os.File }

// OpenScore opens the process's score (proc_pid_oom_score_adj(5)).
func OpenScore() (*Score, error) {
	f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return &Score{f}, nil
}

// Protect protects the process, and every child that it starts, from the OOM killer.
func (s *Score) Protect() error { return s.set("-1000") }

// Expose ends the protection for the process and for the children that it starts.
func (s *Score) Expose() error { return s.set("0") }

func (s *Score) set(score string) error {
	_, err := s.f.WriteAt([]byte(score), 0)
	return err
}

// OwnGroup moves this process to a control group of its own name at the top of
// the tree, if there is a tree (cgroups(7), version 2).
func OwnGroup(name string) error {
	const tree = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(tree, "cgroup.procs")); err != nil {
		return nil //nolint:nilerr // A kernel without control groups.
	}
	dir := filepath.Join(tree, name)
	const perm = 0o755
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// PowersOff reports whether a power-off ends the machine and does not only halt its
// processor. x86 needs ACPI for that; other architectures have it in their firmware.
func PowersOff() bool {
	if runtime.GOARCH != "amd64" {
		return true
	}
	_, err := os.Stat("/sys/firmware/acpi")
	return err == nil
}

// Redirect makes f the standard error of this process, also for the runtime's crash
// output.
func Redirect(f *os.File) error {
	const standardError = 2
	return control(f, func(fd int) error {
		return os.NewSyscallError("dup3", unix.Dup3(fd, standardError, 0))
	})
}

// OpenLog opens the file name in the directory dir for appending. It follows no link in
// either.
func OpenLog(dir, name string) (*os.File, error) {
	root, err := OpenRoot("/")
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	d, err := root.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(d) }()
	const readable = 0o644
	fd, err := retry(func() (int, error) {
		return unix.Openat(d, name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, readable)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir, name), Err: explainLink(err)}
	}
	return os.NewFile(uintptr(fd), name), nil
}
