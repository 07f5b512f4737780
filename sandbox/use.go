package sandbox

import (
	"path/filepath"
	"time"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/snapshot"
)

// A Use counts entries and the bytes that they take on the host's disk, without holes.
type Use struct {
	Count int   // Entries.
	Size  int64 // Bytes on the disk.
}

// Uses returns what the cache takes, by the names of its directories: kernels; lowers
// and disks, which are what images are made of; initramfs, templates and the rest, which
// are made again where they are needed.
func (c *Cache) Uses() (map[string]Use, error) {
	uses, err := c.files.Uses()
	all := map[string]Use{}
	for kind, u := range uses {
		all[kind] = Use(u)
	}
	return all, err
}

// DiskUse returns the bytes on disk of a file, or of a directory with all its content. It
// does not count unreadable files.
func DiskUse(path string) (int64, error) { return image.DiskUse(path) }

// PruneInitramfs removes initramfs files from which no machine has started since a time,
// and returns their use. With pretend it removes nothing.
func (c *Cache) PruneInitramfs(since time.Time, pretend bool) (Use, error) {
	u, err := c.files.PruneInitramfs(since, pretend)
	return Use(u), err
}

// PruneTemplates removes templates ([WarmStart]) from which no machine has started since
// a time, and says what that was; with pretend it only says so. Machines that have started
// from one go on.
func (c *Cache) PruneTemplates(since time.Time, pretend bool) (u Use, err error) {
	all := snapshot.At(filepath.Join(c.Path(), templateKind))
	prune := all.Prune
	if pretend {
		prune = all.Unused
	}
	unused, err := prune(since)
	for _, e := range unused {
		u.Size += e.Bytes
	}
	u.Count = len(unused)
	return u, err
}
