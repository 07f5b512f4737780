package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// workers is how many files are copied at once: twice what an agent does for one
	// client (8), so that it never waits for the link.
	workers = 16

	// chunk is what is read at once, and the smallest hole that is kept: most files
	// of a source tree are smaller.
	chunk = 64 << 10

	// keptErrors bounds what is told of files that could not be copied.
	keptErrors = 10

	// cleanWait is for removing a half written file after the end of a copy.
	cleanWait = 2 * time.Second
)

// Progress counts what is done. It may be read while a copy goes on.
type Progress struct {
	Files atomic.Int64
	Bytes atomic.Int64
}

// Do carries the plan out. What fails for one file does not keep others from being
// copied; the error names the first of them. When ctx ends, files that are half
// written are removed, and the same copy can be planned again to go on.
func (p *Plan) Do(ctx context.Context, done *Progress) error {
	if err := p.makeDirs(ctx); err != nil {
		return err
	}
	var errs failures
	each(ctx, p.files, func(i item) { errs.add(p.copyFile(ctx, i, done)) })
	each(ctx, p.links, func(i item) { errs.add(p.link(ctx, i, done)) })
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// Children first: their parents may become closed to us.
	levels := p.levels()
	slices.Reverse(levels)
	for _, level := range levels {
		each(ctx, level, func(i item) { errs.add(p.to.Describe(ctx, i.to, i.mode, i.mtime)) })
	}
	return errs.err()
}

// levels are the directories by their depth.
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
	if err := p.clear(ctx, i); err != nil {
		return err
	}
	return p.to.Mkdir(ctx, i.to)
}

// clear removes what has the name of an item and is something else.
func (p *Plan) clear(ctx context.Context, i item) error {
	if !i.replace {
		return nil
	}
	return p.to.Remove(ctx, i.to)
}

func (p *Plan) link(ctx context.Context, i item, done *Progress) error {
	if err := p.clear(ctx, i); err != nil {
		return err
	}
	done.Files.Add(1)
	return p.to.Symlink(ctx, i.link, i.to, i.mtime)
}

func (p *Plan) copyFile(ctx context.Context, i item, done *Progress) error {
	if err := p.clear(ctx, i); err != nil {
		return err
	}
	from, err := p.from.Open(ctx, i.from)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // It was only read.
	to, err := p.to.Create(ctx, i.to)
	if err != nil {
		return err
	}
	err = copyData(ctx, to, from, done)
	if err == nil {
		err = to.Describe(i.mode, i.mtime)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWait)
		defer cancel()
		return errors.Join(err, p.to.Remove(clean, i.to))
	}
	done.Files.Add(1)
	return nil
}

var (
	zeros   [chunk]byte
	buffers = sync.Pool{New: func() any { return new([chunk]byte) }}
)

// copyData copies a file, and leaves out what is nothing but zeros.
func copyData(ctx context.Context, to Writer, from Reader, done *Progress) error {
	buf, _ := buffers.Get().(*[chunk]byte)
	defer buffers.Put(buf)
	var size, hole int64 // hole is how much of the end has not been written.
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		skipped, err := skipHole(from, size)
		if err != nil {
			return err
		}
		size, hole = size+skipped, hole+skipped
		n, err := io.ReadFull(from, buf[:])
		if n > 0 && bytes.Equal(buf[:n], zeros[:n]) && n == chunk {
			hole += int64(n)
		} else if n > 0 {
			if err := write(to, buf[:n], hole); err != nil {
				return err
			}
			hole = 0
		}
		size += int64(n)
		done.Bytes.Add(int64(n) + skipped)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if hole > 0 {
		return to.Truncate(size)
	}
	return nil
}

// write writes behind a hole.
func write(to Writer, p []byte, hole int64) error {
	if hole > 0 {
		if _, err := to.Seek(hole, io.SeekCurrent); err != nil {
			return err
		}
	}
	_, err := to.Write(p)
	return err
}

// failures are errors of several workers.
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

func (f *failures) err() error {
	if f.more > 0 {
		return errors.Join(append(f.first, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.first...)
}

// each calls do for all items by several workers, until ctx ends.
func each(ctx context.Context, items []item, do func(item)) {
	var all sync.WaitGroup
	next := make(chan item)
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
