package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/agentd-go/agentd/client"
)

// ErrNoRootDisk says that a machine does not write its root to a disk of its own.
var ErrNoRootDisk = errors.New("the machine's root is no disk that can grow")

// GrowRoot makes the disk that holds the machine's root, or the changes to its image, and the
// file system on it as large as size, in bytes: a multiple of 4 KiB, and not less than they
// are. Files on it stay in use. The guest judges the size first; if it refuses, its reason is
// the error and nothing has changed. Then the disk's file is made larger, which takes no space
// until the machine writes, and the guest's file system. If that fails, the file stays larger,
// and the call may be repeated.
//
// The error is [ErrNoRootDisk] if the root is in memory, shared, or read-only.
func (m *Machine) GrowRoot(ctx context.Context, size int64) (client.RootDisk, error) {
	disk, path, err := m.rootDisk()
	if err != nil {
		return client.RootDisk{}, err
	}
	if _, err := m.client.CheckRootGrowth(ctx, size); err != nil {
		return client.RootDisk{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return client.RootDisk{}, err
	}
	if info.Mode().IsRegular() && info.Size() < size {
		if err := m.vm.ResizeDisk(ctx, disk, size); err != nil {
			return client.RootDisk{}, fmt.Errorf("make %s larger: %w", path, err)
		}
	}
	return m.client.GrowRoot(ctx, size)
}

// rootDisk returns the number and the file of the disk that holds the root.
func (m *Machine) rootDisk() (disk int, path string, err error) {
	path = m.layout.rootFile
	for i, d := range m.layout.machine.Disks {
		if path != "" && d.Path == path && !d.ReadOnly {
			return i, path, nil
		}
	}
	return 0, "", fmt.Errorf("%w: want an image, without --upper tmpfs and --read-only", ErrNoRootDisk)
}
