package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Use counts entries and the bytes that they take on the host's disk.
type Use struct {
	Count int
	Size  int64 // Bytes, without holes.
}

// DiskUse returns the bytes on disk of a file, or of a directory with all its content. It
// does not count unreadable files, or files that vanish meanwhile.
func DiskUse(path string) (n int64, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
			return nil
		case err != nil:
			return err
		}
		n += allocated(info)
		return nil
	})
	return n, err
}

// Uses returns the disk use of the cache, by the names of its directories.
func (c *Cache) Uses() (map[string]Use, error) {
	kinds, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	all := map[string]Use{}
	for _, kind := range kinds {
		if !kind.IsDir() {
			continue
		}
		entries, err := c.entriesOf(kind.Name())
		if err != nil {
			return nil, err
		}
		size, err := DiskUse(filepath.Join(c.dir, kind.Name()))
		if err != nil {
			return nil, err
		}
		all[kind.Name()] = Use{len(entries), size}
	}
	return all, nil
}

// RemoveKernel removes a kernel by its name, its ID or the beginning of its ID. It
// refuses a name that several kernels have. Running machines no longer need the file.
func (c *Cache) RemoveKernel(nameOrID string) (Kernel, error) {
	all, err := c.Kernels()
	if err != nil {
		return Kernel{}, err
	}
	var found []Kernel
	var ids []string
	for _, k := range all {
		if k.Is(nameOrID) {
			found, ids = append(found, k), append(ids, k.ID[:min(len(k.ID), shownID)])
		}
	}
	switch len(found) {
	case 0:
		return Kernel{}, fmt.Errorf("%w %q: imported are: %s", ErrNoKernel, nameOrID, names(all))
	case 1:
		return found[0], c.discard(filepath.Join(c.dir, kernelKind, found[0].ID))
	}
	return Kernel{}, fmt.Errorf("kernel %s: %d have that name: want the ID of one: %s", nameOrID, len(found), strings.Join(ids, ", "))
}

// shownID is the number of digits of an ID in messages.
const shownID = 12

// Is reports whether nameOrID is the kernel's name, its ID or the beginning of its ID.
func (k Kernel) Is(nameOrID string) bool {
	return k.Name == nameOrID || len(nameOrID) >= minID && strings.HasPrefix(k.ID, nameOrID)
}

// discard removes an entry of the cache in one step, so that no other process sees a
// part of it.
func (c *Cache) discard(dir string) error {
	tmp, err := c.scratch("old")
	if err != nil {
		return err
	}
	defer tmp.remove()
	return os.Rename(dir, filepath.Join(tmp.dir, "entry"))
}

// PruneInitramfs removes initramfs files from which no machine has started since a
// time, and returns their use. With pretend it removes nothing. The next machine that
// needs one makes it again.
func (c *Cache) PruneInitramfs(since time.Time, pretend bool) (gone Use, err error) {
	dirs, err := c.unusedInitramfs(since)
	for _, dir := range dirs {
		size, failed := DiskUse(dir)
		if failed == nil && !pretend {
			failed = c.discard(dir)
		}
		if failed == nil {
			gone.Count, gone.Size = gone.Count+1, gone.Size+size
		} else if !errors.Is(failed, fs.ErrNotExist) { // Another process has removed it.
			err = errors.Join(err, failed)
		}
	}
	return gone, err
}

func (c *Cache) unusedInitramfs(since time.Time) (unused []string, err error) {
	dirs, err := c.entriesOf(initramfsKind)
	for _, dir := range dirs {
		if info, failed := os.Stat(dir); failed == nil && info.ModTime().Before(since) {
			unused = append(unused, dir)
		}
	}
	return unused, err
}

// touch marks an entry as used now. It ignores errors: the entry then only looks older.
func touch(dir string) {
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
}
