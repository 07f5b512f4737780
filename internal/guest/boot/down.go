package boot

import (
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// An undo takes back one mount.
type undo struct {
	target string    // Its path; "" if it has none any more.
	pin    *sys.Root // The open mount, if a disk has to be left clean; else nil.
	kernel bool      // A file system of the kernel: nothing of it is on a disk or on the host.
}

// do makes the file system clean before it unmounts it: the pin keeps the mount busy, and
// it may stay busy afterwards.
func (u undo) do(last bool) (err error) {
	if u.pin != nil {
		err = errors.Join(readOnly(u.pin, last), u.pin.Close())
	}
	if u.target != "" {
		err = errors.Join(err, u.unmount())
	}
	return err
}

// Killed processes close their files when they get a processor. A few of them need
// milliseconds, the thousands of a fork bomb need seconds.
const (
	busyDeadline = 500 * time.Millisecond
	busyInterval = 10 * time.Millisecond
)

// readOnly makes a file system read-only when no file is open for writing. If one stays
// open and this is the last use of the machine, it freezes the file system: that also puts
// all writes on the disk and empties the journal.
func readOnly(root *sys.Root, last bool) error {
	for end := sys.BootTime() + busyDeadline; ; {
		err := root.RemountReadOnly()
		switch late := sys.BootTime() > end; {
		case !errors.Is(err, syscall.EBUSY) || late && !last:
			return err
		case late:
			return frozen(root, err)
		}
		<-time.After(busyInterval)
	}
}

// frozen freezes the file system, and returns nil on success. A file system without a disk
// cannot be frozen, and has nothing to be left clean.
func frozen(root *sys.Root, busy error) error {
	err := root.Freeze()
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return busy
	}
	return err
}

// unmount unmounts the file system, or detaches it if it is in use. The kernel's own, such
// as /dev with the port, are only detached.
func (u undo) unmount() error {
	err := sys.Unmount(u.target, false)
	if errors.Is(err, syscall.EINVAL) {
		return nil // Nothing is mounted there: another init has unmounted it already.
	}
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	lazily := sys.Unmount(u.target, true)
	if u.kernel {
		return lazily
	}
	return errors.Join(err, lazily)
}

func (u undo) String() string {
	if u.target == "" {
		return "the root's upper"
	}
	return u.target
}

// undoWait is how long one undo may take before the next begins beside it: a host that does
// not answer for its file system must not keep the others from being left clean. A healthy
// disk takes milliseconds.
const undoWait = time.Second

// Down undoes the mounts of Up, last first, and leaves the root clean: all writes are on
// its disk. It returns after deadline even if an undo hangs: a host that does not answer
// for a file system must not keep the machine.
func (m *Machine) Down(deadline time.Duration) {
	if !inTurn(m.downs(), deadline) {
		sys.Logf("%v are over, ending the machine as it is", deadline)
	}
}

// Freeze leaves every disk clean at once and for good, also with files open, and reports
// whether it succeeded. The caller ends the machine afterwards. Files on shared directories
// of hosts have all writes already.
func (m *Machine) Freeze(deadline time.Duration) bool {
	var failed atomic.Bool
	all := []func(){sys.Sync}
	for _, u := range slices.Backward(m.undo) {
		if u.pin == nil {
			continue
		}
		all = append(all, func() {
			if err := u.pin.Freeze(); err != nil {
				failed.Store(true)
				sys.Logf("%v: %v", u, err)
			}
		})
	}
	return inTurn(all, deadline) && !failed.Load()
}

// inTurn calls all functions. Each begins when the one before has returned, or after
// undoWait. It reports whether all returned before the deadline.
func inTurn(all []func(), deadline time.Duration) bool {
	end := time.After(deadline)
	var running []<-chan struct{}
	for _, do := range all {
		done := make(chan struct{})
		go func() { defer close(done); do() }()
		running = append(running, done)
		select {
		case <-done:
		case <-time.After(undoWait):
		case <-end:
			return false
		}
	}
	for _, done := range running {
		select {
		case <-done:
		case <-end:
			return false
		}
	}
	return true
}

// downs returns all undos of Down, in order.
func (m *Machine) downs() (all []func()) {
	if m.late != nil {
		all = append(all, m.late.end)
		m.late = nil
	}
	all = append(all, sys.Sync)
	for _, u := range slices.Backward(m.undo) {
		all = append(all, func() { u.logged(!m.InitEnds) })
	}
	m.undo = nil
	return append(all, rootClean, sys.Sync)
}

func (m *Machine) undoLast() {
	u := m.undo[len(m.undo)-1]
	m.undo = m.undo[:len(m.undo)-1]
	u.logged(false)
}

func (u undo) logged(last bool) {
	if err := u.do(last); err != nil {
		sys.Logf("undo of %v: %v", u, err)
	}
}

func rootClean() {
	if err := rootReadOnly(); err != nil {
		sys.Logf("the root: %v", err)
	}
}

func rootReadOnly() error {
	root, err := sys.OpenRoot("/")
	if err != nil {
		return err
	}
	return errors.Join(root.RemountReadOnly(), root.Close())
}
