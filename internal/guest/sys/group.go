package sys

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// groups is where the tree of control groups is mounted (cgroups(7), version 2).
const groups = "/sys/fs/cgroup"

// WorkloadGroup is the control group of all commands, by the reference agents' name.
const WorkloadGroup = groups + "/microsandbox-workload"

// A Group is a control group that can be frozen. Its files stay open, so that what is
// mounted over the tree later changes nothing.
type Group struct {
	path           string
	dir            int
	freeze, events *os.File
}

// HasGroups reports whether a control group of this path can be made.
func HasGroups(path string) bool {
	return Device(filepath.Join(filepath.Dir(path), "cgroup.procs")) != 0
}

// OpenGroup makes a control group, unless it is there. The error says what the kernel lacks.
func OpenGroup(path string) (*Group, error) {
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "cgroup.procs")); err != nil {
		return nil, fmt.Errorf("no cgroup v2: %w", err)
	}
	const perm = 0o755
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	freeze, err := os.OpenFile(filepath.Join(path, "cgroup.freeze"), os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("no cgroup freezer: %w", err)
	}
	events, err := os.Open(filepath.Join(path, "cgroup.events"))
	if err != nil {
		return nil, errors.Join(err, freeze.Close())
	}
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("open", err), freeze.Close(), events.Close())
	}
	return &Group{path, dir, freeze, events}, nil
}

// FD is the descriptor for children that are to begin in the group
// (syscall.SysProcAttr.CgroupFD). It stays the group's.
func (g *Group) FD() int { return g.dir }

// ErrNotFrozen is returned by Freeze if the kernel has not stopped every process in time:
// one waits in the kernel and cannot be stopped. The others stay frozen.
var ErrNotFrozen = errors.New("cgroup did not report frozen=1")

// Freeze stops every process of the group and of the groups below it, and waits for that.
// Processes stopped before an error stay stopped until Thaw.
func (g *Group) Freeze(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	if err := g.write("1"); err != nil {
		return err
	}
	for {
		frozen, err := g.frozen()
		if frozen || err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("%w within %v", ErrNotFrozen, limit)
		}
		// The kernel says so when the file has changed since it was read.
		fds := []unix.PollFd{{Fd: int32(g.events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}

func (g *Group) frozen() (bool, error) {
	const room = 256 // Two short lines.
	b := make([]byte, room)
	n, err := unix.Pread(int(g.events.Fd()), b, 0)
	if err != nil {
		return false, os.NewSyscallError("pread", err)
	}
	return bytes.Contains(b[:n], []byte("frozen 1\n")), nil
}

// Thaw lets the processes of the group go on.
func (g *Group) Thaw() error { return g.write("0") }

func (g *Group) write(s string) error {
	_, err := g.freeze.WriteAt([]byte(s), 0)
	return err
}
