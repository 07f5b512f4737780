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
	target string    // Where it is; "" if no path leads to it any more.
	pin    *sys.Root // The mount itself, for what has to be left clean on a disk; else nil.
	kernel bool      // Nothing of it is on a disk or with the host.
}

// do leaves the file system clean before it lets go of it: the pin that finds it
// keeps it busy, and it may stay busy after.
func (u undo) do(last bool) (err error) {
	if u.pin != nil {
		err = errors.Join(readOnly(u.pin, last), u.pin.Close())
	}
	if u.target != "" {
		err = errors.Join(err, u.unmount())
	}
	return err
}

// Processes that were killed close their files once they get a processor; a few
// have done so within milliseconds, the thousands of a fork bomb need seconds.
const (
	busyDeadline = 500 * time.Millisecond
	busyInterval = 10 * time.Millisecond
)

// readOnly makes a file system read-only, as soon as nobody has a file open to
// write to it. One that does not get there is frozen, if nothing comes after us: all
// that was written is on its disk, and its journal is empty then too.
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

// frozen returns nil if the file system could be frozen instead. Those without a
// disk cannot, and have nothing to be left clean.
func frozen(root *sys.Root, busy error) error {
	err := root.Freeze()
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return busy
	}
	return err
}

// unmount detaches at least what is in use; for the kernel's own, such as the
// devices, of which the port is one, that is all there is to do.
func (u undo) unmount() error {
	err := sys.Unmount(u.target, false)
	if errors.Is(err, syscall.EINVAL) {
		return nil // Nothing is mounted there: another init has let go of it already.
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

// patience is how long one thing may take before the next is begun, while it
// goes on: one host that no longer answers for its file system must not keep
// all others from being left clean. A disk in order takes milliseconds.
const patience = time.Second

// Down undoes what Up did, last first, and leaves the root clean: everything
// written is on its disk. It returns after deadline whatever hangs: a host that
// no longer answers for a file system must not keep the machine.
func (m *Machine) Down(deadline time.Duration) {
	if !inTurn(m.downs(), deadline) {
		sys.Logf("%v are over, ending the machine as it is", deadline)
	}
}

// Freeze leaves every disk clean at once and for good, whoever has files open there,
// and reports whether it could: what is left to do then is to end the machine. The
// files of hosts have what was written.
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

// inTurn does all things, each one after the one before or after patience. It
// reports whether all were done before the deadline.
func inTurn(all []func(), deadline time.Duration) bool {
	end := time.After(deadline)
	var running []<-chan struct{}
	for _, do := range all {
		done := make(chan struct{})
		go func() { defer close(done); do() }()
		running = append(running, done)
		select {
		case <-done:
		case <-time.After(patience):
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

// downs are all things to do on the way down, in order.
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
