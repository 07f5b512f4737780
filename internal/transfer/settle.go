package transfer

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"sync"
	"time"
)

// A machine that is killed loses what its kernel has not written to its disks, and
// may keep a new name of a file without the bytes (ext4 commits a name before it
// allocates the file's blocks). So files get their names only after a sync. One for
// each file would double the time of a copy of small ones: they share it.
const (
	// batchFor is how long a file waits at most for others, and how much work an
	// interrupted copy does again.
	batchFor = time.Second

	// batchFiles bounds the parts that lie in a machine.
	batchFiles = 1024
)

// A batch is the files that are whole and wait for their names.
type batch struct {
	mu    sync.Mutex
	parts map[string]string // By the name that they will have.
	since time.Time         // When the first of them came.
}

// add returns true if the batch shall be settled now.
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

// part is where the file of that name is while it waits.
func (b *batch) part(name string) (part string, waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	part, waits = b.parts[name]
	return part, waits
}

// at is where the file of that name is now.
func (t *guestTarget) at(name string) string {
	if part, waits := t.batch.part(t.path(name)); waits {
		return part
	}
	return t.path(name)
}

// commit gives a part its name, with others of its batch.
func (t *guestTarget) commit(ctx context.Context, part, name string) error {
	if t.batch.add(name, part) {
		return t.settle(ctx)
	}
	return nil
}

// free makes sure that no file waits for the name.
func (t *guestTarget) free(ctx context.Context, name string) error {
	if _, waits := t.batch.part(t.path(name)); waits {
		return t.settle(ctx)
	}
	return nil
}

// settle gives the files that wait their names. What gets none is removed.
func (t *guestTarget) settle(ctx context.Context) error {
	parts := t.batch.take()
	names := slices.Sorted(maps.Keys(parts))
	var errs failures
	if err := t.sync(ctx, names); err != nil {
		t.drop(ctx, parts, names)
		return err
	}
	each(context.WithoutCancel(ctx), names, func(name string) {
		if err := t.c.Rename(ctx, parts[name], name); err != nil {
			errs.add(errors.Join(err, removePart(ctx, t.c, parts[name])))
		}
	})
	return errs.err()
}

// drop removes parts that get no name. After the link's end they stay in the machine,
// which the link's error says.
func (t *guestTarget) drop(ctx context.Context, parts map[string]string, names []string) {
	each(context.WithoutCancel(ctx), names, func(name string) { _ = removePart(ctx, t.c, parts[name]) })
}

// sync has the disks of the files' directories written, whichever they are.
func (t *guestTarget) sync(ctx context.Context, names []string) error {
	last := ""
	for _, name := range names {
		if dir := path.Dir(name); dir != last {
			if err := t.c.Sync(ctx, dir); err != nil {
				return err
			}
			last = dir
		}
	}
	return nil
}

// Settle is settle, after which all of that is on the machine's disk.
func (t *guestTarget) Settle(ctx context.Context) error {
	err := t.settle(ctx)
	if err == nil {
		err = t.c.Sync(ctx, t.dir)
	}
	return err
}

// Settle does nothing: files of this host have their names already.
func (*hostTarget) Settle(context.Context) error { return nil }
