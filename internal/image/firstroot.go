package image

import (
	"context"
	"os"
	"path/filepath"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

const (
	firstKind   = "firsts"
	firstRecipe = "first root 1"

	smallKind   = "smalls"
	smallRecipe = "small root 1"
)

// FirstRoot returns a disk (EROFS) that holds the agent as /NAME and the directories on
// which it mounts what it needs before it changes to another root.
func (c *Cache) FirstRoot(agent []byte, name string, dirs ...string) (string, error) {
	key := newKeyer(firstRecipe)
	key.add([]byte(name))
	key.add(agent)
	return c.treeDisk(firstKind, key, func(root string) error {
		for _, d := range dirs {
			if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil { //nolint:gosec // Directories of a root are for everyone.
				return err
			}
		}
		return os.WriteFile(filepath.Join(root, name), agent, 0o755) //nolint:gosec // A program.
	})
}

// SmallRoot returns [Cache.BusyboxRoot] as a disk (EROFS). It is no image: nothing
// removes it with the images that have no name.
func (c *Cache) SmallRoot(busybox string) (string, error) {
	key := newKeyer(smallRecipe + ", " + rootRecipe)
	if err := key.addFile(busybox); err != nil {
		return "", err
	}
	return c.treeDisk(smallKind, key, func(root string) error { return BusyboxRoot(root, busybox) })
}

// treeDisk is the disk with the tree that fill makes in an empty directory.
func (c *Cache) treeDisk(kind string, key keyer, fill func(root string) error) (string, error) {
	dir, err := c.Dir(kind, key.key(), func(dir string) error {
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil { //nolint:gosec // As above.
			return err
		}
		if err := fill(root); err != nil {
			return err
		}
		ctx := context.Background() // It is small.
		if err := writeLower(dir, key.uuid(), func(w *erofs.Writer) error { return addTree(ctx, w, root) }); err != nil {
			return err
		}
		return os.RemoveAll(root)
	})
	return filepath.Join(dir, lowerFile), err
}
