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

// A Side is this host's files or a machine's. Names are absolute, or relative to what the
// side takes as its current directory; they lead wherever the side's links lead. The
// context bounds each operation, and for an open file all that is done with it.
type Side interface {
	Stat(ctx context.Context, name string) (fs.FileInfo, error)
	Lstat(ctx context.Context, name string) (fs.FileInfo, error)
	// ReadDir's entries describe themselves without another operation where the
	// side can.
	ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error)
	ReadLink(ctx context.Context, name string) (string, error)
	RealPath(ctx context.Context, name string) (string, error)
	Open(ctx context.Context, name string) (Reader, error)
	// Through opens what is there to be written as it is: a device, a pipe.
	Through(ctx context.Context, name string) (io.WriteCloser, error)
	// Below gives the directory that a copy writes below. It need not exist.
	Below(dir string) Target
	// Top is Below for a directory that the copy makes or finds: a link is none.
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

// permissions are the bits of a mode that are copied.
const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// Permissions of what is not described yet: nobody else reads what is half there.
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

// Through opens what is there for writing.
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
type Guest struct{ Client *client.Client }

// Stat describes a file, links followed.
func (g Guest) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return g.Client.Stat(ctx, name)
}

// Lstat describes a file or a link.
func (g Guest) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	return g.Client.Lstat(ctx, name)
}

// ReadDir lists a directory.
func (g Guest) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	return g.Client.ReadDir(ctx, name)
}

// ReadLink returns what a link says.
func (g Guest) ReadLink(ctx context.Context, name string) (string, error) {
	return g.Client.ReadLink(ctx, name)
}

// RealPath is a name without links.
func (g Guest) RealPath(ctx context.Context, name string) (string, error) {
	return g.Client.RealPath(ctx, name)
}

// Open opens a file for reading.
func (g Guest) Open(ctx context.Context, name string) (Reader, error) {
	f, err := g.Client.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Through opens what is there for writing.
func (g Guest) Through(ctx context.Context, name string) (io.WriteCloser, error) {
	f, err := g.Client.OpenFile(ctx, name, os.O_WRONLY, 0)
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
