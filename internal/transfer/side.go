package transfer

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
)

// A Side is one end of a copy. Names are absolute, or relative to what the side
// takes as its current directory. The context bounds each operation, and for an
// open file all that is done with it.
type Side interface {
	Stat(ctx context.Context, name string) (fs.FileInfo, error)
	Lstat(ctx context.Context, name string) (fs.FileInfo, error)
	// ReadDir's entries describe themselves without another operation where the
	// side can.
	ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error)
	ReadLink(ctx context.Context, name string) (string, error)
	Open(ctx context.Context, name string) (Reader, error)
	// Create makes or empties a file.
	Create(ctx context.Context, name string) (Writer, error)
	Mkdir(ctx context.Context, name string) error // Parents too; one that exists is fine.
	Symlink(ctx context.Context, target, name string, mtime time.Time) error
	Remove(ctx context.Context, name string) error
	Describe(ctx context.Context, name string, mode fs.FileMode, mtime time.Time) error
	Join(dir, name string) string
	Base(name string) string
}

// A Reader is a file that is read from.
type Reader interface {
	io.Reader
	io.Seeker
	io.Closer
}

// A Writer is a file that is written. Close reports what could not be written.
type Writer interface {
	io.Writer
	io.Seeker
	io.Closer
	Truncate(size int64) error
	Describe(mode fs.FileMode, mtime time.Time) error
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

// Open is os.Open.
func (Host) Open(_ context.Context, name string) (Reader, error) { return os.Open(name) }

// Create makes or empties a file. A link is not followed: what is copied may come
// from a guest that put it there before.
func (Host) Create(_ context.Context, name string) (Writer, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, earlyFile)
	if err != nil {
		return nil, err
	}
	return hostFile{f}, nil
}

// Mkdir makes a directory and its parents. A link to one is none, for the same reason.
func (Host) Mkdir(_ context.Context, name string) error {
	if err := os.MkdirAll(name, earlyDir); err != nil {
		return err
	}
	info, err := os.Lstat(name)
	if err == nil && !info.IsDir() {
		err = &os.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	return err
}

// Symlink makes a link with a time. That a file system has none for links is no
// reason to have no link.
func (Host) Symlink(_ context.Context, target, name string, mtime time.Time) error {
	if err := os.Symlink(target, name); err != nil {
		return err
	}
	_ = lchtimes(name, mtime)
	return nil
}

// Remove is os.Remove.
func (Host) Remove(_ context.Context, name string) error { return os.Remove(name) }

// Describe sets permissions and time. A link is not followed here either.
func (Host) Describe(_ context.Context, name string, mode fs.FileMode, mtime time.Time) error {
	return describe(name, mode&permissions, mtime)
}

// Join is filepath.Join.
func (Host) Join(dir, name string) string { return filepath.Join(dir, name) }

// Base is filepath.Base.
func (Host) Base(name string) string { return filepath.Base(name) }

type hostFile struct{ *os.File }

func (f hostFile) Describe(mode fs.FileMode, mtime time.Time) error {
	return Host{}.Describe(context.Background(), f.Name(), mode, mtime)
}

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

// Open opens a file for reading.
func (g Guest) Open(ctx context.Context, name string) (Reader, error) {
	f, err := g.Client.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Create makes or empties a file.
func (g Guest) Create(ctx context.Context, name string) (Writer, error) {
	f, err := g.Client.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, earlyFile)
	if err != nil {
		return nil, err
	}
	return guestFile{f}, nil
}

// Mkdir makes a directory and its parents.
func (g Guest) Mkdir(ctx context.Context, name string) error {
	return g.Client.MkdirAll(ctx, name, earlyDir)
}

// Symlink makes a link with a time.
func (g Guest) Symlink(ctx context.Context, target, name string, mtime time.Time) error {
	if err := g.Client.Symlink(ctx, target, name); err != nil {
		return err
	}
	_ = g.Client.Lchtimes(ctx, name, time.Time{}, mtime) // As on this host.
	return nil
}

// Remove removes a file.
func (g Guest) Remove(ctx context.Context, name string) error { return g.Client.Remove(ctx, name) }

// Describe sets permissions and time.
func (g Guest) Describe(ctx context.Context, name string, mode fs.FileMode, mtime time.Time) error {
	if err := g.Client.Chmod(ctx, name, mode&permissions); err != nil {
		return err
	}
	return g.Client.Chtimes(ctx, name, time.Time{}, mtime)
}

// Join is path.Join.
func (g Guest) Join(dir, name string) string { return path.Join(dir, name) }

// Base is path.Base.
func (g Guest) Base(name string) string { return path.Base(name) }

type guestFile struct{ *client.File }

func (f guestFile) Describe(mode fs.FileMode, mtime time.Time) error {
	return f.File.Describe(mode&permissions, mtime)
}
