package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/agentd-go/agentd/internal/filelock"
)

// lockImports takes the import lock in shared mode. It excludes removals, because
// nothing refers yet to content that an import has just made.
func (c *Cache) lockImports() (unlock func(), err error) {
	path := filepath.Join(c.dir, importLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = f.Close() // Only creates the file.
	l, err := shareLock(path)
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}

// RemoveImage removes a name, and with its last name the image; an ID removes the image
// with all its names. It also deletes content without a reference; during an import it
// leaves that to the next removal. A machine that has the image open keeps running.
func (c *Cache) RemoveImage(nameOrID string) error {
	i, err := c.Image(nameOrID)
	if err != nil {
		return err
	}
	names := i.Names
	if name, err := FullName(nameOrID); err == nil && slices.Contains(names, name) {
		names = []string{name}
	}
	for _, n := range names {
		if err := os.Remove(c.nameFile(n, i.architecture())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(names) == len(i.Names) {
		if err := os.RemoveAll(filepath.Join(c.dir, imageKind, filepath.Base(i.key()))); err != nil {
			return err
		}
	}
	_, err = c.collect(false)
	return err
}

func (i Image) key() string { return i.ID[len("sha256:"):] }

// PruneImages removes images without a name, such as a run of a file or directory
// leaves, and content without an image. Images whose IDs are in keep stay. It returns
// the removed images.
func (c *Cache) PruneImages(keep ...string) ([]Image, error) { return c.collect(true, keep...) }

// collect deletes content that no image refers to, and with unnamed also images
// that no name refers to, except those to keep.
func (c *Cache) collect(unnamed bool, keep ...string) (removed []Image, err error) {
	path := filepath.Join(c.dir, importLock)
	l, err := tryLock(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, filelock.ErrHeld) && !unnamed {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	all, err := c.Images()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, i := range all {
		if unnamed && len(i.Names) == 0 && !slices.Contains(keep, i.ID) {
			if err := os.RemoveAll(filepath.Join(c.dir, imageKind, i.key())); err != nil {
				return removed, err
			}
			removed = append(removed, i)
			continue
		}
		used[filepath.Dir(i.Path)] = true
	}
	return removed, errors.Join(c.collectKind(lowerKind, used), c.collectKind(diskKind, used))
}

// entriesOf returns the paths of all entries of a kind. It does not glob with the
// cache's path, which may hold pattern characters.
func (c *Cache) entriesOf(kind string) (paths []string, err error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, kind))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(c.dir, kind, e.Name()))
	}
	return paths, err
}

func (c *Cache) collectKind(kind string, used map[string]bool) error {
	dirs, err := c.entriesOf(kind)
	for _, dir := range dirs {
		if !used[dir] {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}
