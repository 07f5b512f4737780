package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/image/oci"
)

const (
	// fetchesAtOnce is the number that registries' own clients use. Several connections
	// fill a network whose servers limit each one; more of them would not be faster.
	fetchesAtOnce = 3
	// stallWait is how long a fetch may receive nothing before it ends. A registry that
	// looks for a layer elsewhere takes seconds.
	stallWait = time.Minute
)

// ErrStalled is found in the error of an import whose registry sends nothing more.
var ErrStalled = errors.New("the registry has sent nothing for " + stallWait.String())

// A progress counts the stored bytes of an import's layers.
type progress struct {
	done, all atomic.Int64
	tell      func(done, all int64)
}

type progressKey struct{}

// WithProgress returns a context whose imports report their progress: how many stored
// bytes of layers were read, and how many there are. Several goroutines call tell at
// once, for each piece that they read.
func WithProgress(ctx context.Context, tell func(done, all int64)) context.Context {
	return context.WithValue(ctx, progressKey{}, &progress{tell: tell})
}

type notesKey struct{}

// WithNotes returns a context whose imports report, one line each, the parts of an
// archive that the image lacks. Such an image is still usable.
func WithNotes(ctx context.Context, say func(line string)) context.Context {
	return context.WithValue(ctx, notesKey{}, say)
}

// noteLeft reports the attributes that were left out.
func noteLeft(ctx context.Context, left map[string]int) {
	for _, name := range slices.Sorted(maps.Keys(left)) {
		noteLine(ctx, fmt.Sprintf("left out: extended attribute %q of %d files, which an image cannot have", name, left[name]))
	}
}

func noteLine(ctx context.Context, line string) {
	if say, ok := ctx.Value(notesKey{}).(func(string)); ok {
		say(line)
	}
}

// advance reports more bytes to the context's progress function, if it has one.
func advance(ctx context.Context, done, all int64) {
	if p, ok := ctx.Value(progressKey{}).(*progress); ok {
		p.tell(p.done.Add(done), p.all.Add(all))
	}
}

// A countingReader reports the number of bytes of each read.
type countingReader struct {
	io.Reader
	count func(n int)
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.count(n)
	return n, err
}

// ahead starts to fetch the layers that are in a registry into files, a few at once and
// in order, while the caller writes the layers before them. The returned layers read
// those files. The caller calls end when it no longer needs the layers.
func (c *Cache) ahead(ctx context.Context, layers []oci.Layer) (near []oci.Layer, end func(), err error) {
	if !slices.ContainsFunc(layers, func(l oci.Layer) bool { return l.Far }) {
		return layers, func() {}, nil
	}
	tmp, err := c.scratch(imageKind)
	if err != nil {
		return nil, nil, err
	}
	near = slices.Clone(layers)
	queue := make(chan *fetch, len(layers))
	for i, l := range layers {
		f := &fetch{layer: l, path: filepath.Join(tmp.dir, strconv.Itoa(i)), done: make(chan struct{})}
		near[i].Open = f.open
		queue <- f
	}
	close(queue)
	ctx, cancel := context.WithCancel(ctx)
	var fetchers sync.WaitGroup
	for range fetchesAtOnce {
		fetchers.Go(func() {
			for f := range queue {
				f.run(ctx)
			}
		})
	}
	return near, func() {
		cancel()
		fetchers.Wait()
		tmp.remove()
	}, nil
}

// A fetch is a layer on its way from a registry into a file.
type fetch struct {
	layer oci.Layer
	path  string
	done  chan struct{} // Closed at its end.
	err   error         // Read it only after done is closed.
}

// open waits until the layer is fetched. The file then belongs to the returned reader.
func (f *fetch) open(ctx context.Context) (io.ReadCloser, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if f.err != nil {
		return nil, f.err
	}
	r, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	return r, os.Remove(f.path) // The disk space is free as soon as the reader is closed.
}

func (f *fetch) run(ctx context.Context) {
	defer close(f.done)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallWait, func() { cancel(ErrStalled) })
	defer stalled.Stop()
	f.err = f.copy(ctx, func(n int) {
		stalled.Reset(stallWait)
		advance(ctx, int64(n), 0)
	})
	if cause := context.Cause(ctx); f.err != nil && cause != nil {
		f.err = cause
	}
}

func (f *fetch) copy(ctx context.Context, count func(n int)) error {
	from, err := f.layer.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// The limit ends a registry that sends for ever.
	n, err := io.Copy(to, io.LimitReader(countingReader{from, count}, f.layer.Size+1))
	if err == nil && n != f.layer.Size {
		err = fmt.Errorf("%w: it has %d bytes or more, named were %d", oci.ErrDigest, n, f.layer.Size)
	}
	return errors.Join(err, to.Close())
}
