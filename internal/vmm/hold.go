package vmm

import (
	"errors"
	"os"

	"github.com/agentd-go/agentd/internal/filelock"
)

// A HeldError says that another machine or program has a disk open.
type HeldError struct{ Disk string }

// Error returns the same text as an [ExitError] for a disk that QEMU cannot lock.
func (e *HeldError) Error() string {
	return "disk " + e.Disk + ": another machine or program has it open; several can only read it"
}

// hold locks the disks that the machine writes to until it has ended. QEMU's own lock is
// independent of ours. QEMU lets two machines write that are restored from a saved state
// at the same time, and it holds no lock while a machine is paused.
func (v *VM) hold(m Machine, o Options, u *undo) error {
	u.push(v.letGo)
	for _, d := range m.Disks {
		if d.ReadOnly || d.placeholder {
			continue
		}
		f, err := lockDisk(d.Path)
		if errors.Is(err, filelock.ErrHeld) {
			return &HeldError{d.Path}
		}
		if _, unfit := errors.AsType[*UnfitError](err); unfit && o.From == nil {
			continue // QEMU's lock must do. Such a machine cannot be paused.
		}
		if err != nil {
			return err
		}
		v.held = append(v.held, f)
	}
	return nil
}

// letGo releases the locks.
func (v *VM) letGo() {
	for _, f := range v.held {
		_ = f.Close() // Nothing was written to it.
	}
	v.held = nil
}

func firstWritable(disks []Disk) string {
	for _, d := range disks {
		if !d.ReadOnly {
			return d.Path
		}
	}
	return ""
}

// lockDisk opens a file and locks it for as long as it is open.
func lockDisk(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
