package vmm

import (
	"errors"
	"os"
)

// A HeldError is a disk that somebody else writes to.
type HeldError struct{ Disk string }

// Error is what [ExitError] says where QEMU finds it.
func (e *HeldError) Error() string {
	return "disk " + e.Disk + ": another machine or program has it open; several can only read it"
}

// hold locks the disks that the machine writes to, until it has ended: of two machines
// that are put into a saved state at the same time QEMU lets both write. One that boots
// is kept away by QEMU's own lock, which is another than ours.
func (v *VM) hold(m Machine, o Options, u *undo) error {
	u.push(v.letGo)
	if o.From == nil {
		return nil
	}
	for _, d := range m.Disks {
		if d.ReadOnly {
			continue
		}
		f, err := lockDisk(d.Path)
		if errors.Is(err, errHeld) {
			return &HeldError{d.Path}
		}
		if err != nil {
			return err
		}
		v.held = append(v.held, f)
	}
	return nil
}

// letGo gives the locks back.
func (v *VM) letGo() {
	for _, f := range v.held {
		_ = f.Close() // Nothing was written to it.
	}
	v.held = nil
}

// errHeld is a lock that somebody else has.
var errHeld = errors.New("locked by another process")

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
