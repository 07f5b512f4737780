package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// importAny imports a stream by way of a temporary file, because an archive of archives
// needs random access, and any other source as it is.
func (c *Cache) importAny(ctx context.Context, source string, o ImportOptions, naming func([]string) []string) ([]Image, error) {
	in, name, err := streamOf(source, o.Input)
	if err != nil {
		return nil, err
	}
	if in == nil {
		return c.importAs(ctx, source, o, naming)
	}
	defer func() { _ = in.Close() }()
	tmp, err := c.scratch(imageKind)
	if err != nil {
		return nil, err
	}
	defer tmp.remove()
	o.spooled = filepath.Join(tmp.dir, "stream")
	if name != "" {
		o.Want.Name = name
	}
	// Before the cache is locked: a stream may pause for ever.
	if err := spool(ctx, o.spooled, in); err != nil {
		return nil, err
	}
	return c.importAs(ctx, source, o, naming)
}

// streamOf returns the reader of a source that can be read only once: the caller's
// input, in which SOURCE:NAME names an image, or a named pipe. It returns nil for other
// sources.
func streamOf(source string, input io.Reader) (in io.ReadCloser, name string, err error) {
	if input != nil {
		_, name, _ = strings.Cut(source, ":")
		return io.NopCloser(input), name, nil
	}
	if !isPipe(source) {
		return nil, "", nil
	}
	in, err = os.Open(source)
	return in, "", err
}

func isPipe(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

// spool copies a stream to a new file. It returns when ctx ends, even if the stream's
// next byte never comes.
func spool(ctx context.Context, path string, in io.Reader) error {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		_ = w.CloseWithError(err) // It returns no error.
	}()
	stop := context.AfterFunc(ctx, func() { _ = r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	defer func() { _ = r.Close() }() // The copy ends with its next byte.
	n, err := keepBounded(path, r)
	if err == nil && n == 0 {
		err = errors.New("the stream is empty")
	}
	return errors.Join(context.Cause(ctx), err)
}

// keepBounded copies r to a new file, at most as much as an image may have.
func keepBounded(path string, r io.Reader) (n int64, err error) {
	most := erofs.DefaultLimits.Bytes
	limited := &io.LimitedReader{R: r, N: most}
	if err = copySparse(path, limited); err == nil && limited.N == 0 {
		err = fmt.Errorf("%w (%d bytes)", ErrTooLarge, most)
	}
	return most - limited.N, err
}
