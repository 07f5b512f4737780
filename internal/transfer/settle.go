package transfer

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/agentd-go/agentd/client"
)

// A killed machine loses the data that its kernel has not written to its disks. It may
// keep a file's new name without the bytes (ext4 commits a name before it allocates the
// file's blocks). So files get their names only after a sync. A sync for each file
// would double the time of a copy of small files, so a batch of files shares one.
const (
	// batchFor is how long a file waits for others at most. An interrupted copy repeats
	// the work of that time.
	batchFor = time.Second

	// batchFiles bounds the parts in a machine.
	batchFiles = 1024
)

// A batch holds complete files that wait for their names.
type batch struct {
	mu    sync.Mutex
	parts map[string]string // By their final names.
	since time.Time         // When the first of them was added.
}

// add returns true if the batch must be settled now.
func (b *batch) add(name, part string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.parts) == 0 {
		b.parts, b.since = map[string]string{}, time.Now()
	}
	b.parts[name] = part
	return len(b.parts) >= batchFiles || time.Since(b.since) >= batchFor
}

// take empties the batch.
func (b *batch) take() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	parts := b.parts
	b.parts = nil
	return parts
}

// part returns the temporary path of the file with that name, if it waits.
func (b *batch) part(name string) (part string, waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	part, waits = b.parts[name]
	return part, waits
}

// at returns the current path of the file with that name.
func (t *guestTarget) at(name string) string {
	if part, waits := t.batch.part(t.path(name)); waits {
		return part
	}
	return t.path(name)
}

// commit adds a part to the batch, and settles the batch if it is due.
func (t *guestTarget) commit(ctx context.Context, part, name string) error {
	if t.batch.add(name, part) {
		return t.settle(ctx)
	}
	return nil
}

// free settles the batch if a file in it waits for the name.
func (t *guestTarget) free(ctx context.Context, name string) error {
	if _, waits := t.batch.part(t.path(name)); waits {
		return t.settle(ctx)
	}
	return nil
}

// settle gives the waiting files their names. It removes a file whose rename fails.
func (t *guestTarget) settle(ctx context.Context) error {
	parts := t.batch.take()
	names := slices.Sorted(maps.Keys(parts))
	var errs failures
	if err := t.sync(ctx, names); err != nil {
		t.drop(ctx, parts, names)
		return err
	}
	each(context.WithoutCancel(ctx), names, func(name string) {
		if err := t.rename(ctx, parts[name], name); err != nil {
			errs.add(errors.Join(err, removePart(ctx, t.g, parts[name])))
		}
	})
	return errs.err()
}

// rename gives a file its name. When it is repeated on another link the file may have it.
func (t *guestTarget) rename(ctx context.Context, part, name string) error {
	asked := false
	return t.g.do(ctx, func(c *client.Client) error {
		err := c.Rename(ctx, part, name)
		if asked && errors.Is(err, fs.ErrNotExist) {
			_, err = c.Lstat(ctx, name)
		}
		asked = true
		return err
	})
}

// drop removes parts that get no name. If the link has ended, they stay in the machine.
func (t *guestTarget) drop(ctx context.Context, parts map[string]string, names []string) {
	each(context.WithoutCancel(ctx), names, func(name string) { _ = removePart(ctx, t.g, parts[name]) })
}

// sync writes the file systems of the files' directories to disk.
func (t *guestTarget) sync(ctx context.Context, names []string) error {
	last := ""
	for _, name := range names {
		if dir := path.Dir(name); dir != last {
			if err := t.syncDir(ctx, dir); err != nil {
				return err
			}
			last = dir
		}
	}
	return nil
}

func (t *guestTarget) syncDir(ctx context.Context, dir string) error {
	return t.g.do(ctx, func(c *client.Client) error { return c.Sync(ctx, dir) })
}

// Settle settles the batch and syncs, so that the copy is on the machine's disk.
func (t *guestTarget) Settle(ctx context.Context) error {
	err := t.settle(ctx)
	if err == nil {
		err = t.syncDir(ctx, t.dir)
	}
	return err
}

// Settle does nothing: files of this host have their names already.
func (*hostTarget) Settle(context.Context) error { return nil }
