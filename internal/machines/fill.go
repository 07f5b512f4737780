package machines

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/sandbox"
)

// FillVolume gives an empty volume that no machine uses its first files: fill writes them
// to an empty directory, which then takes the place of the volume's. So the volume has all
// of them or none, whenever this program or the host ends. It reports whether the volume
// got them; fill is not called for a volume that has files or is used.
func (s *Store) FillVolume(name string, fill func(dir string) error) (filled bool, err error) {
	if _, err := s.volume(name); err != nil {
		return false, err
	}
	err = exclusively(s.volumePath(name, fillLock), func() error {
		empty, err := s.isFresh(name)
		if !empty || err != nil {
			return err
		}
		early, err := s.fillDir(name)
		if err != nil {
			return err
		}
		if err = fill(early); err == nil {
			filled, err = s.takeFilled(name, early)
		}
		if !filled {
			err = errors.Join(err, sandbox.RemoveFiles(early))
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", name, err)
	}
	return filled, nil
}

// The files of a volume that is being filled. One program at a time has the lock.
const (
	fillLock   = "lock"
	fillPrefix = hidden + "fill-"
)

// fillDir makes the directory to fill, and removes what an earlier program left.
func (s *Store) fillDir(name string) (string, error) {
	entries, err := os.ReadDir(s.volumePath(name))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), fillPrefix) {
			err = errors.Join(err, sandbox.RemoveFiles(s.volumePath(name, e.Name())))
		}
	}
	early, failed := os.MkdirTemp(s.volumePath(name), fillPrefix)
	if err = errors.Join(err, failed); err != nil {
		return "", err
	}
	return early, os.Chmod(early, 0o755) //nolint:gosec // The machine's users read it.
}

// isFresh reports whether a volume has no files and no machine.
func (s *Store) isFresh(name string) (bool, error) {
	v, err := s.Volume(name)
	if err != nil || len(v.Used) > 0 {
		return false, err
	}
	entries, err := os.ReadDir(v.Path)
	return len(entries) == 0, err
}

// takeFilled puts the filled directory in the place of the volume's, if it is still empty
// and no machine has come to use it. The kernel's rename replaces only an empty directory;
// [os.Rename] would replace none.
func (s *Store) takeFilled(name, early string) (taken bool, err error) {
	err = s.change(func() error {
		if fresh, err := s.isFresh(name); !fresh || err != nil {
			return err
		}
		err := syscall.Rename(early, s.VolumePath(name))
		taken = err == nil
		if errors.Is(err, fs.ErrExist) { // ENOTEMPTY too.
			return nil
		}
		return os.NewSyscallError("rename", err)
	})
	return taken, err
}
