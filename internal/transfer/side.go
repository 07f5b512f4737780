package transfer

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/agentd-go/agentd/client"
)

// A Side is the files of this host or of a machine. Names are absolute, or relative to
// the side's current directory; links are followed. The context bounds each operation;
// for an open file it bounds all later operations on it.
type Side interface {
	Stat(ctx context.Context, name string) (fs.FileInfo, error)
	Lstat(ctx context.Context, name string) (fs.FileInfo, error)
	// ReadDir lists a directory. The entries' Info needs no further operation if the
	// side's listing has it.
	ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error)
	ReadLink(ctx context.Context, name string) (string, error)
	RealPath(ctx context.Context, name string) (string, error)
	Open(ctx context.Context, name string) (Reader, error)
	// Through opens an existing device or pipe for writing.
	Through(ctx context.Context, name string) (io.WriteCloser, error)
	// Below returns the directory below which a copy writes. It need not exist.
	Below(dir string) Target
	// Top is like Below, but dir itself must not be a link.
	Top(dir string) Target
	Join(dir, name string) string
	Base(name string) string
	Dir(name string) string
}

// A Reader is a file that is read from.
type Reader interface {
	io.Reader
	io.Seeker
	io.Closer
}

// permissions are the mode bits that are copied.
const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// Temporary permissions, so that nobody else reads an incomplete copy.
const (
	earlyFile = 0o600
	earlyDir  = 0o700
)

// Host is this host's files.
type Host struct{}

// Stat is os.Stat.
func (Host) Stat(_ context.Context, name string) (fs.FileInfo, error) { return os.Stat(name) }

// Lstat is os.Lstat.
func (Host) Lstat(_ context.Context, name string) (fs.FileInfo, error) { return os.Lstat(name) }

// ReadDir is os.ReadDir.
func (Host) ReadDir(_ context.Context, name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// ReadLink is os.Readlink.
func (Host) ReadLink(_ context.Context, name string) (string, error) { return os.Readlink(name) }

// RealPath is filepath.EvalSymlinks.
func (Host) RealPath(_ context.Context, name string) (string, error) {
	return filepath.EvalSymlinks(name)
}

// Open is os.Open.
func (Host) Open(_ context.Context, name string) (Reader, error) { return os.Open(name) }

// Through opens an existing device or pipe for writing.
func (Host) Through(_ context.Context, name string) (io.WriteCloser, error) {
	return os.OpenFile(name, os.O_WRONLY, 0)
}

// Join is filepath.Join.
func (Host) Join(dir, name string) string { return filepath.Join(dir, name) }

// Base is filepath.Base.
func (Host) Base(name string) string { return filepath.Base(name) }

// Dir is filepath.Dir.
func (Host) Dir(name string) string { return filepath.Dir(name) }

// Guest is a machine's files.
type Guest struct {
	Client *client.Client

	// Again, if set, is used in place of Client: operations are repeated on the next link
	// when a link ends, and files go on where they were.
	Again *client.Reconnector
}

// do calls f with a client, and again on the next link.
func (g Guest) do(ctx context.Context, f func(c *client.Client) error) error {
	if g.Again == nil {
		return f(g.Client)
	}
	return g.Again.Do(ctx, f)
}

// from returns what f returns of a client, by do.
func from[T any](ctx context.Context, g Guest, f func(c *client.Client) (T, error)) (v T, err error) {
	err = g.do(ctx, func(c *client.Client) error {
		v, err = f(c)
		return err
	})
	return v, err
}

// client returns a client whose link is up, as far as is known.
func (g Guest) client(ctx context.Context) (*client.Client, error) {
	if g.Again == nil {
		return g.Client, nil
	}
	return g.Again.Client(ctx)
}

// archives reports whether the machine's agent has archives.
func (g Guest) archives() bool {
	if g.Again == nil {
		return g.Client.Archives()
	}
	return g.Again.Last().Archives()
}

// Stat describes a file, links followed.
func (g Guest) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return from(ctx, g, func(c *client.Client) (fs.FileInfo, error) { return c.Stat(ctx, name) })
}

// Lstat describes a file or a link.
func (g Guest) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	return from(ctx, g, func(c *client.Client) (fs.FileInfo, error) { return c.Lstat(ctx, name) })
}

// ReadDir lists a directory.
func (g Guest) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	return from(ctx, g, func(c *client.Client) ([]fs.DirEntry, error) { return c.ReadDir(ctx, name) })
}

// ReadLink returns what a link says.
func (g Guest) ReadLink(ctx context.Context, name string) (string, error) {
	return from(ctx, g, func(c *client.Client) (string, error) { return c.ReadLink(ctx, name) })
}

// RealPath is a name without links.
func (g Guest) RealPath(ctx context.Context, name string) (string, error) {
	return from(ctx, g, func(c *client.Client) (string, error) { return c.RealPath(ctx, name) })
}

// Open opens a file for reading.
func (g Guest) Open(ctx context.Context, name string) (Reader, error) {
	if g.Again != nil {
		f, err := g.Again.Open(ctx, name)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	f, err := g.Client.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Through opens an existing device or pipe for writing.
func (g Guest) Through(ctx context.Context, name string) (io.WriteCloser, error) {
	f, err := from(ctx, g, func(c *client.Client) (*client.File, error) { return c.OpenFile(ctx, name, os.O_WRONLY, 0) })
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Join is path.Join.
func (g Guest) Join(dir, name string) string { return path.Join(dir, name) }

// Base is path.Base.
func (g Guest) Base(name string) string { return path.Base(name) }

// Dir is path.Dir.
func (g Guest) Dir(name string) string { return path.Dir(name) }
