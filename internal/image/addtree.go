package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// A treeReader adds a directory of the host's to an image: owners, modes, times,
// attributes and hard links as they are.
type treeReader struct {
	ctx    context.Context //nolint:containedctx // The reader is the call.
	writer *erofs.Writer
	root   *os.Root
	dir    string
	device any
	links  map[inode]string
}

// addTree adds dir. Like tar --one-file-system it leaves out what is mounted in it.
func addTree(ctx context.Context, w *erofs.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	t := &treeReader{ctx: ctx, writer: w, root: root, dir: dir, links: map[inode]string{}}
	w.NextLayer()
	return fs.WalkDir(root.FS(), ".", t.visit)
}

func (t *treeReader) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if err := context.Cause(t.ctx); err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner and links are not known on this system", name)
	}
	if t.device == nil {
		t.device = st.Dev
	}
	if st.Dev != t.device {
		if d.IsDir() {
			return t.mountPoint(name, info)
		}
		return nil
	}
	if !d.IsDir() && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := t.links[id]; ok {
			return t.writer.Link(name, first)
		}
		t.links[id] = name
	}
	return t.add(name, info, st)
}

// mountPoint adds a directory that hides another file system, and not that.
func (t *treeReader) mountPoint(name string, info fs.FileInfo) error {
	const perm = 0o755
	if err := t.writer.Add(erofs.Entry{Name: name, Mode: uint16(syscall.S_IFDIR) | perm, Mtime: info.ModTime()}, nil); err != nil {
		return err
	}
	return fs.SkipDir
}

// owner is the owner in the image. What an ordinary user has made is root's there,
// as it is where that user's directory is shared with a machine.
func (t *treeReader) owner(st *syscall.Stat_t) (uid, gid uint32) {
	uid, gid = st.Uid, st.Gid
	if me := os.Geteuid(); me != 0 && uid == uint32(me) {
		uid = 0
	}
	if mine := os.Getegid(); os.Geteuid() != 0 && gid == uint32(mine) {
		gid = 0
	}
	return uid, gid
}

func (t *treeReader) add(name string, info fs.FileInfo, st *syscall.Stat_t) (err error) {
	major, minor := deviceNumbers(st.Rdev)
	uid, gid := t.owner(st)
	e := erofs.Entry{
		Name: name, Mode: uint16(st.Mode), UID: uid, GID: gid, Mtime: info.ModTime(),
		Major: major, Minor: minor,
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if e.Target, err = t.root.Readlink(name); err != nil {
			return err
		}
		return t.writer.Add(e, nil)
	}
	if e.Xattrs, err = readXattrs(filepath.Join(t.dir, name)); err != nil {
		return fmt.Errorf("extended attributes of %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return t.writer.Add(e, nil)
	}
	f, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	e.Size = info.Size()
	return t.writer.Add(e, f)
}
