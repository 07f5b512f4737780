package sandbox

import (
	"time"

	"github.com/agentd-go/agentd/internal/image"
)

// A Use is what something takes on the host's disk: how many there are, and their bytes
// without holes.
type Use struct {
	Count int
	Size  int64
}

// Uses returns what the cache takes, by the names of its directories: kernels; lowers
// and disks, which are what images are made of; initramfs and the rest, which are made
// again where they are needed.
func (c *Cache) Uses() (map[string]Use, error) {
	uses, err := c.files.Uses()
	all := map[string]Use{}
	for kind, u := range uses {
		all[kind] = Use(u)
	}
	return all, err
}

// DiskUse returns the bytes that a file takes on disk, or a directory with all that is in
// it. What may not be read is not counted.
func DiskUse(path string) (int64, error) { return image.DiskUse(path) }

// PruneInitramfs removes initramfs from the cache that no machine was started from since a
// time, and says what that was; with pretend it only says so.
func (c *Cache) PruneInitramfs(since time.Time, pretend bool) (Use, error) {
	prune := c.files.PruneInitramfs
	if pretend {
		prune = c.files.UnusedInitramfs
	}
	u, err := prune(since)
	return Use(u), err
}
