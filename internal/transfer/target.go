package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
)

// A Target is a directory that a copy writes below. Names are relative to it, with
// slashes; "." is the directory itself. On this host no link leads out of it, even if
// another program changes it meanwhile.
type Target interface {
	Lstat(ctx context.Context, name string) (fs.FileInfo, error)
	ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error)
	ReadLink(ctx context.Context, name string) (string, error)
	// Create makes a file that has no name until it is committed.
	Create(ctx context.Context, name string) (Writer, error)
	Mkdir(ctx context.Context, name string) error // With its parents; an existing directory is no error.
	Symlink(ctx context.Context, target, name string, mtime time.Time) error
	// Link gives a file of the target a second name. If the side has no hard links,
	// name becomes a copy and shared is false.
	Link(ctx context.Context, old, name string) (shared bool, err error)
	Remove(ctx context.Context, name string) error
	RemoveAll(ctx context.Context, name string) error // With all that is below; a missing one is no error.
	Describe(ctx context.Context, name string, mode fs.FileMode, mtime time.Time) error
	// Settle gives committed files their names. After it the copy is on disk and
	// survives a kill of the machine.
	Settle(ctx context.Context) error
	Close() error
}

// A Writer is a file that is written under a temporary name. Commit reports write
// errors; without any it gives the file its name, at the latest at the next
// [Target].Settle. Abort removes the file.
type Writer interface {
	io.Writer
	io.Seeker
	Truncate(size int64) error
	// Own gives the file the owner of the one that it replaces.
	Own(like fs.FileInfo) error
	Describe(mode fs.FileMode, mtime time.Time) error
	Commit() error
	Abort() error
}

// partName returns a temporary name in the directory of name. Its length is fixed,
// because name may have the greatest length.
func partName(name string) string { return path.Join(path.Dir(name), partPrefix+rand.Text()) }

const partPrefix = ".agentctl-"

// named replaces the part's name in an error by the target's name. It leaves other
// errors, such as the source's, unchanged.
func named(err error, name string) error {
	failed, ok := errors.AsType[*fs.PathError](err)
	if !ok || !strings.HasPrefix(path.Base(failed.Path), partPrefix) {
		return err
	}
	return &fs.PathError{Op: failed.Op, Path: path.Join(path.Dir(failed.Path), path.Base(name)), Err: failed.Err}
}

// hostTarget opens its directory at the first operation, because the copy may have to
// make it.
type hostTarget struct {
	dir string
	top bool // Dir itself must not be a link.

	mu   sync.Mutex
	root *os.Root
}

func (t *hostTarget) open() (*os.Root, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root == nil {
		root, err := os.OpenRoot(t.dir)
		if err != nil {
			return nil, err
		}
		if err := t.check(root); err != nil {
			return nil, errors.Join(err, root.Close())
		}
		t.root = root
	}
	return t.root, nil
}

// check refuses a top directory that was reached by a link.
func (t *hostTarget) check(root *os.Root) error {
	if !t.top {
		return nil
	}
	opened, err := root.Stat(".")
	if err != nil {
		return err
	}
	named, err := os.Lstat(t.dir)
	if err == nil && !os.SameFile(opened, named) {
		err = &fs.PathError{Op: "open", Path: t.dir, Err: syscall.ELOOP}
	}
	return err
}

func (t *hostTarget) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// onHost calls f with the target's open directory.
func onHost[T any](t *hostTarget, f func(*os.Root) (T, error)) (v T, err error) {
	root, err := t.open()
	if err != nil {
		return v, err
	}
	return f(root)
}

// do is onHost for what has no result.
func (t *hostTarget) do(f func(*os.Root) error) error {
	_, err := onHost(t, func(r *os.Root) (struct{}, error) { return struct{}{}, f(r) })
	return err
}

func (t *hostTarget) Lstat(_ context.Context, name string) (fs.FileInfo, error) {
	return onHost(t, func(r *os.Root) (fs.FileInfo, error) { return r.Lstat(name) })
}

func (t *hostTarget) ReadDir(_ context.Context, name string) ([]fs.DirEntry, error) {
	return onHost(t, func(r *os.Root) ([]fs.DirEntry, error) { return fs.ReadDir(r.FS(), name) })
}

func (t *hostTarget) ReadLink(_ context.Context, name string) (string, error) {
	return onHost(t, func(r *os.Root) (string, error) { return r.Readlink(name) })
}

func (t *hostTarget) Create(_ context.Context, name string) (Writer, error) {
	return onHost(t, func(r *os.Root) (Writer, error) {
		part := partName(name)
		f, err := r.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, earlyFile)
		if err != nil {
			return nil, named(err, name)
		}
		return &hostFile{f, r, part, name}, nil
	})
}

// Mkdir makes a directory. A link to a directory is an error, because a guest's copy
// may have put it there before.
func (t *hostTarget) Mkdir(_ context.Context, name string) error {
	if _, err := t.open(); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(t.dir, earlyDir); err != nil {
			return err
		}
	}
	root, err := t.open()
	if err != nil || name == "." {
		return err
	}
	if err := root.MkdirAll(name, earlyDir); err != nil {
		return err
	}
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	return err
}

// Symlink makes a link and sets its time. It ignores file systems that have no time for
// links.
func (t *hostTarget) Symlink(_ context.Context, target, name string, mtime time.Time) error {
	return t.do(func(r *os.Root) error {
		if err := r.Symlink(target, name); err != nil {
			return err
		}
		_ = timeLink(r, name, mtime)
		return nil
	})
}

func (t *hostTarget) Link(_ context.Context, old, name string) (bool, error) {
	return onHost(t, func(r *os.Root) (bool, error) { return true, r.Link(old, name) })
}

func (t *hostTarget) Remove(_ context.Context, name string) error {
	return t.do(func(r *os.Root) error { return r.Remove(name) })
}

func (t *hostTarget) RemoveAll(_ context.Context, name string) error {
	root, err := t.open()
	if err != nil {
		return err
	}
	return root.RemoveAll(name)
}

// Describe sets permissions and time. A link is refused.
func (t *hostTarget) Describe(_ context.Context, name string, mode fs.FileMode, mtime time.Time) error {
	return t.do(func(r *os.Root) error { return describe(r, name, mode&permissions, mtime) })
}

// A hostFile is written as part and renamed at the end.
type hostFile struct {
	*os.File
	root       *os.Root
	part, name string
}

func (f *hostFile) Describe(mode fs.FileMode, mtime time.Time) error {
	if err := f.Chmod(mode & permissions); err != nil {
		return err
	}
	return f.setTime(mtime)
}

// Own sets the owner. It ignores that an ordinary user may not: replacing a file needs
// only write access to the directory.
func (f *hostFile) Own(like fs.FileInfo) error {
	uid, gid, ok := ownerOf(like)
	if !ok {
		return nil
	}
	if err := f.Chown(uid, gid); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func (f *hostFile) Commit() error {
	err := f.Close()
	if err == nil {
		err = f.root.Rename(f.part, f.name)
	}
	if err != nil {
		return errors.Join(err, f.root.Remove(f.part))
	}
	return nil
}

func (f *hostFile) Abort() error { return errors.Join(f.Close(), f.root.Remove(f.part)) }

// guestTarget is a directory of a machine. Links in the guest may lead anywhere: all
// files there are the guest's own.
type guestTarget struct {
	g     Guest
	dir   string
	batch batch
	there *listed // What is there already; nil if that was not listed.
}

func (t *guestTarget) path(name string) string { return path.Join(t.dir, name) }

func (t *guestTarget) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	return t.g.Lstat(ctx, t.at(name))
}

func (t *guestTarget) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	if t.there != nil {
		return t.there.ReadDir(ctx, t.path(name))
	}
	return t.g.ReadDir(ctx, t.path(name))
}

func (t *guestTarget) ReadLink(ctx context.Context, name string) (string, error) {
	if t.there != nil {
		return t.there.ReadLink(ctx, t.path(name))
	}
	return t.g.ReadLink(ctx, t.path(name))
}

func (t *guestTarget) Create(ctx context.Context, name string) (Writer, error) {
	if err := t.free(ctx, name); err != nil {
		return nil, err
	}
	var part string
	f, err := from(ctx, t.g, func(c *client.Client) (*client.File, error) {
		part = partName(t.path(name)) // The one before may be there.
		return c.CreatePart(ctx, part, earlyFile)
	})
	if err != nil {
		return nil, named(err, t.path(name))
	}
	return &guestFile{f, ctx, t, part, t.path(name)}, nil
}

func (t *guestTarget) Mkdir(ctx context.Context, name string) error {
	return t.g.do(ctx, func(c *client.Client) error { return c.MkdirAll(ctx, t.path(name), earlyDir) })
}

func (t *guestTarget) Symlink(ctx context.Context, target, name string, mtime time.Time) error {
	return t.g.do(ctx, func(c *client.Client) error {
		err := c.Symlink(ctx, target, t.path(name))
		if errors.Is(err, fs.ErrExist) {
			if says, _ := c.ReadLink(ctx, t.path(name)); says == target { // It was made over the link before.
				err = nil
			}
		}
		if err == nil {
			_ = c.Lchtimes(ctx, t.path(name), time.Time{}, mtime) // As on this host.
		}
		return err
	})
}

// Link makes a copy, because the protocol has no hard links.
func (t *guestTarget) Link(ctx context.Context, old, name string) (bool, error) {
	part := partName(t.path(name))
	info, err := t.Lstat(ctx, old)
	if err == nil {
		err = t.g.do(ctx, func(c *client.Client) error { return c.Copy(ctx, t.at(old), part) })
	}
	if err == nil {
		err = t.g.do(ctx, func(c *client.Client) error { return c.Chtimes(ctx, part, time.Time{}, info.ModTime()) })
	}
	if err != nil {
		return false, errors.Join(err, removePart(ctx, t.g, part))
	}
	return false, t.commit(ctx, part, t.path(name))
}

func (t *guestTarget) Remove(ctx context.Context, name string) error {
	if err := t.free(ctx, name); err != nil {
		return err
	}
	asked := false
	return t.g.do(ctx, func(c *client.Client) error {
		err := c.Remove(ctx, t.path(name))
		if asked && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		asked = true
		return err
	})
}

func (t *guestTarget) RemoveAll(ctx context.Context, name string) error {
	return t.g.do(ctx, func(c *client.Client) error {
		if err := c.RemoveAll(ctx, t.path(name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (t *guestTarget) Describe(ctx context.Context, name string, mode fs.FileMode, mtime time.Time) error {
	return t.g.do(ctx, func(c *client.Client) error {
		if err := c.Chmod(ctx, t.at(name), mode&permissions); err != nil {
			return err
		}
		return c.Chtimes(ctx, t.at(name), time.Time{}, mtime)
	})
}

func (*guestTarget) Close() error { return nil } // The caller closes the client.

// A guestFile is written as part and renamed at the end.
type guestFile struct {
	*client.File
	ctx        context.Context //nolint:containedctx // The context of the open file, as in client.File.
	to         *guestTarget
	part, name string
}

func (f *guestFile) Describe(mode fs.FileMode, mtime time.Time) error {
	return f.File.Describe(mode&permissions, mtime)
}

func (f *guestFile) Own(like fs.FileInfo) error {
	if s, ok := like.Sys().(*client.Stat); ok && s.UID|s.GID != 0 {
		return f.Chown(int(s.UID), int(s.GID))
	}
	return nil // The part belongs to root already.
}

func (f *guestFile) Commit() error {
	if err := f.Close(); err != nil && !f.resumes(err) { // All had arrived before.
		return errors.Join(err, f.remove())
	}
	return f.to.commit(f.ctx, f.part, f.name)
}

func (f *guestFile) Abort() error { return errors.Join(f.Close(), f.remove()) }

func (f *guestFile) remove() error { return removePart(f.ctx, f.to.g, f.part) }

// resume opens the file again on the next link. What follows at is to be written again.
func (f *guestFile) resume(ctx context.Context) (at int64, err error) {
	_ = f.Close() // Says that the link has ended.
	err = f.to.g.do(ctx, func(c *client.Client) error {
		f.File, at, err = c.ReopenPart(f.ctx, f.part)
		return err
	})
	return at, err
}

// resumes reports whether a file goes on after an error: its link has ended.
func (f *guestFile) resumes(err error) bool {
	return f.to.g.Again != nil && client.LinkEnded(err)
}

// removePart also works after the end of a copy's context, for up to cleanWait. If the
// link has ended, the part stays in the machine.
func removePart(ctx context.Context, g Guest, part string) error {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWait)
	defer cancel()
	if err := g.do(clean, func(c *client.Client) error { return c.Remove(clean, part) }); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Below returns the directory as a target.
func (Host) Below(dir string) Target { return &hostTarget{dir: filepath.Clean(dir)} }

// Top returns the directory as a target; it must not be a link.
func (Host) Top(dir string) Target { return &hostTarget{dir: filepath.Clean(dir), top: true} }

// Top is Below: links of a machine lead only within the machine.
func (g Guest) Top(dir string) Target { return g.Below(dir) }

// Below returns the machine's directory as a target.
func (g Guest) Below(dir string) Target { return &guestTarget{g: g, dir: dir} }
