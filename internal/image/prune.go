package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// lockImports takes the lock that keeps apart imports, of which there may be many
// at once, and removal: what an import has just made, nothing refers to yet.
func (c *Cache) lockImports() (unlock func(), err error) {
	path := filepath.Join(c.dir, importLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = f.Close() // It was to make it.
	l, err := waitLock(path, true)
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}

// RemoveImage removes a name, and the image with the last of its names; or, given
// an ID, the image with all. What nothing refers to then is deleted too, unless
// an import is going on: then the next removal does. A machine that has the image
// open goes on.
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
		if err := os.Remove(c.nameFile(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

// PruneImages removes the images without a name, as running a file or a
// directory leaves them, and content that no image has. It returns what was removed.
// Those whose IDs are given stay.
func (c *Cache) PruneImages(keep ...string) ([]Image, error) { return c.collect(true, keep...) }

// collect deletes content that no image refers to, and with unnamed also images
// that no name refers to, except those to keep.
func (c *Cache) collect(unnamed bool, keep ...string) (removed []Image, err error) {
	path := filepath.Join(c.dir, importLock)
	l, err := tryLock(path, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLocked) && !unnamed {
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

// entriesOf are the paths of what there is of a kind. The cache's own path is no
// pattern, whatever characters are in it.
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
