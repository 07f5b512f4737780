package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// workers is how many files are copied at once: twice the operations that an agent
	// runs at once for one client (8), so that the agent always has work queued.
	workers = 16

	// chunk is the size of a read and the smallest hole that is kept. Most files of a
	// source tree are smaller.
	chunk = 64 << 10

	// keptErrors bounds the reported errors of files.
	keptErrors = 10

	// cleanWait bounds the removal of a partial file after the end of a copy.
	cleanWait = 2 * time.Second
)

// Progress counts the copied files and bytes. It may be read during the copy.
type Progress struct {
	Files   atomic.Int64
	Bytes   atomic.Int64
	Removed atomic.Int64 // Names that a sync has removed; a directory counts as one.
}

// Do carries the plan out. If a file fails, the others are still copied; the error
// names the first failed ones. When ctx ends, partial files are removed; planning the
// same copy again continues it.
func (p *Plan) Do(ctx context.Context, done *Progress) error {
	if p.through != nil {
		return p.writeThrough(ctx, done)
	}
	if p.sync != nil {
		return p.doSync(ctx, done)
	}
	return p.copy(ctx, done)
}

func (p *Plan) copy(ctx context.Context, done *Progress) error {
	if p.streams() {
		return p.stream(ctx, done)
	}
	if err := p.makeDirs(ctx); err != nil {
		return err
	}
	errs := &p.failed
	each(ctx, p.files, func(i item) { errs.add(p.copyFile(ctx, i, done)) })
	each(ctx, p.links, func(i item) { errs.add(p.link(ctx, i, done)) })
	errs.add(p.to.Settle(ctx)) // Also after ctx has ended: it removes parts that get no name.
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// Children first: the final mode of a parent may forbid access to them.
	levels := p.levels()
	slices.Reverse(levels)
	for _, level := range levels {
		each(ctx, level, func(i item) { errs.add(p.to.Describe(ctx, i.to, i.mode, i.mtime)) })
	}
	if len(p.dirs) > 0 {
		errs.add(p.to.Settle(ctx))
	}
	return errs.err()
}

// levels returns the directories grouped by depth.
func (p *Plan) levels() (all [][]item) {
	for _, i := range p.dirs {
		for len(all) <= i.depth {
			all = append(all, nil)
		}
		all[i.depth] = append(all[i.depth], i)
	}
	return all
}

// makeDirs makes the directories, parents first.
func (p *Plan) makeDirs(ctx context.Context) error {
	var errs failures
	for _, level := range p.levels() {
		each(ctx, level, func(i item) { errs.add(p.makeDir(ctx, i)) })
	}
	return errs.err()
}

func (p *Plan) makeDir(ctx context.Context, i item) error {
	if i.exists {
		return nil
	}
	return p.to.Mkdir(ctx, i.to)
}

func (p *Plan) link(ctx context.Context, i item, done *Progress) error {
	if i.replace {
		if err := p.to.Remove(ctx, i.to); err != nil {
			return err
		}
	}
	if err := p.to.Symlink(ctx, i.link, i.to, i.mtime); err != nil {
		return err
	}
	done.Files.Add(1)
	return nil
}

// copyFile copies a file, which gets its name only when it is complete.
func (p *Plan) copyFile(ctx context.Context, i item, done *Progress) error {
	from, err := p.from.Open(ctx, i.from)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // It was only read.
	to, err := p.to.Create(ctx, i.to)
	if err != nil {
		return err
	}
	if err := p.fill(ctx, i, to, from, done); err != nil {
		return errors.Join(named(err, i.to), to.Abort())
	}
	if err := to.Commit(); err != nil {
		return err
	}
	done.Files.Add(1)
	return nil
}

// fill writes a file. When the link to the target ends it goes on, on the next one, after what
// has arrived.
func (p *Plan) fill(ctx context.Context, i item, to Writer, from Reader, done *Progress) error {
	at := int64(0)
	for {
		size, err := p.fillFrom(ctx, i, to, from, at, done)
		f, ok := to.(*guestFile)
		if !ok || !f.resumes(err) {
			return err
		}
		if at, err = f.resume(ctx); err != nil {
			return err
		}
		if _, err = from.Seek(at, io.SeekStart); err != nil {
			return err
		}
		done.Bytes.Add(at - size)
	}
}

// fillFrom writes what follows in a file, and describes it. It returns how far it has come.
func (p *Plan) fillFrom(ctx context.Context, i item, to Writer, from Reader, at int64, done *Progress) (int64, error) {
	size, err := copyData(ctx, to, from, at, done)
	if err == nil {
		err = p.complete(ctx, i, size)
	}
	if err == nil && i.old != nil {
		err = to.Own(i.old)
	}
	if err == nil {
		err = to.Describe(i.mode, i.mtime)
	}
	return size, err
}

// complete compares the number of copied bytes with the file's size. A file may have
// changed since it was listed, so complete calls Stat again before it reports an error.
// Files of sysfs claim a page but may have less (fs/sysfs/file.c).
func (p *Plan) complete(ctx context.Context, i item, size int64) error {
	if size >= i.size {
		return nil
	}
	info, err := p.from.Stat(ctx, i.from)
	if err != nil {
		return err
	}
	if size < info.Size() && !slices.Contains(pageSizes, info.Size()) {
		return fmt.Errorf("%s: ended after %d of %d bytes", i.from, size, info.Size())
	}
	return nil
}

// A counter counts the bytes that are read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

var pageSizes = []int64{4 << 10, 16 << 10, 64 << 10}

// writeThrough writes a file to the device or pipe at the target.
func (p *Plan) writeThrough(ctx context.Context, done *Progress) error {
	i := p.files[0]
	from, err := p.from.Open(ctx, i.from)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // It was only read.
	counted := &counter{Reader: from}
	if err := pour(ctx, *p.through, counted); err != nil {
		return err
	}
	size := counted.n
	done.Files.Add(1)
	done.Bytes.Add(size)
	return p.complete(ctx, i, size)
}

var (
	zeros   [chunk]byte
	buffers = sync.Pool{New: func() any { return new([chunk]byte) }}
)

// copyData copies a file from an offset on, at which both stand, makes holes of zeros, and
// returns its size.
func copyData(ctx context.Context, to Writer, from Reader, size int64, done *Progress) (int64, error) {
	buf, _ := buffers.Get().(*[chunk]byte)
	defer buffers.Put(buf)
	var hole int64 // Zeros at the end that are not written yet.
	for {
		if err := context.Cause(ctx); err != nil {
			return size, err
		}
		skipped, err := skipHole(from, size)
		if err != nil {
			return size, err
		}
		size, hole = size+skipped, hole+skipped
		n, err := io.ReadFull(from, buf[:])
		if n > 0 && bytes.Equal(buf[:n], zeros[:n]) && n == chunk {
			hole += int64(n)
		} else if n > 0 {
			if err := write(to, buf[:n], hole); err != nil {
				return size, err
			}
			hole = 0
		}
		size += int64(n)
		done.Bytes.Add(int64(n) + skipped)
		if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // io.ReadFull's own; a wrapped one is no end of the file.
			break
		}
		if err != nil {
			return size, err
		}
	}
	if hole > 0 {
		return size, to.Truncate(size)
	}
	return size, nil
}

// write skips a hole and then writes p.
func write(to Writer, p []byte, hole int64) error {
	if hole > 0 {
		if _, err := to.Seek(hole, io.SeekCurrent); err != nil {
			return err
		}
	}
	_, err := to.Write(p)
	return err
}

// failures collects the errors of several workers.
type failures struct {
	mu    sync.Mutex
	first []error
	more  int
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.first) < keptErrors {
		f.first = append(f.first, err)
	} else {
		f.more++
	}
}

// count adds errors that are only counted.
func (f *failures) count(more uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.more += int(min(more, math.MaxInt32))
}

func (f *failures) err() error {
	if f.more > 0 {
		return errors.Join(append(f.first, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.first...)
}

// each calls do for all items from several goroutines, until ctx ends.
func each[T any](ctx context.Context, items []T, do func(T)) {
	var all sync.WaitGroup
	next := make(chan T)
	for range min(workers, len(items)) {
		all.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for _, i := range items {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	all.Wait()
}
