//go:build unix

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/agentd-go/agentd/internal/image/erofs"
)

// A treeReader adds a directory of the host to an image, with its owners, modes, times,
// attributes and hard links.
type treeReader struct {
	ctx    context.Context //nolint:containedctx // The reader is the call.
	writer *erofs.Writer
	root   *os.Root
	dir    string
	device any
	links  map[inode]linked
	room   int // Bytes of memory that names may still take; see treeRoom.
}

// A linked file has further names that the walk has not reached yet.
type linked struct {
	first string
	more  uint64
}

// treeRoom bounds the memory for names: those of the directories on the current path,
// each of which is listed whole before its first entry is added, and those of linked
// files. A name costs its bytes plus nameCost.
const (
	treeRoom = 48 << 20
	nameCost = 64
)

// addTree adds dir. Like tar --one-file-system it leaves out what is mounted in it.
func addTree(ctx context.Context, w *erofs.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	w.NextLayer()
	t := &treeReader{ctx: ctx, writer: w, root: root, dir: dir, links: map[inode]linked{}, room: treeRoom}
	return t.walk(".")
}

// walk adds the file at name and everything beneath it, sorted by name.
func (t *treeReader) walk(name string) error {
	if err := context.Cause(t.ctx); err != nil {
		return err
	}
	info, err := t.root.Lstat(name)
	if err != nil {
		return err
	}
	if err := t.visit(name, info); err != nil || !info.IsDir() {
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	names, err := t.list(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := t.walk(path.Join(name, n)); err != nil {
			return err
		}
		t.room += len(n) + nameCost
	}
	return nil
}

// take charges a kept name to the room.
func (t *treeReader) take(name string) error {
	if t.room -= len(name) + nameCost; t.room < 0 {
		return fmt.Errorf("%s: %w: the names of large directories and of linked files take more than %d bytes of memory", name, ErrTooLarge, treeRoom)
	}
	return nil
}

// list reads the names of a directory. Its own list of entries would take three times
// their memory.
func (t *treeReader) list(dir string) (names []string, err error) {
	const atOnce = 1024
	f, err := t.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	for {
		some, err := f.Readdirnames(atOnce)
		for _, n := range some {
			if err := t.take(n); err != nil {
				return nil, err
			}
		}
		names = append(names, some...)
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (t *treeReader) visit(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner and links are not known on this system", name)
	}
	if t.device == nil {
		t.device = st.Dev
	}
	if st.Dev != t.device {
		if info.IsDir() {
			return t.mountPoint(name, info)
		}
		return nil
	}
	if !info.IsDir() && st.Nlink > 1 {
		if first, ok := t.known(inode{st.Dev, st.Ino}); ok {
			return t.writer.Link(name, first)
		}
		if err := t.take(name); err != nil {
			return err
		}
		t.links[inode{st.Dev, st.Ino}] = linked{name, uint64(st.Nlink) - 1} //nolint:unconvert,nolintlint // Of 32 bits on other systems.
	}
	return t.add(name, info, st)
}

// known returns the first name of a file. It forgets the file after its last name.
func (t *treeReader) known(id inode) (first string, ok bool) {
	l, ok := t.links[id]
	if !ok {
		return "", false
	}
	if l.more--; l.more == 0 {
		delete(t.links, id)
		t.room += len(l.first) + nameCost
		return l.first, true
	}
	t.links[id] = l
	return l.first, true
}

// mountPoint adds the directory that a file system is mounted on, without that file
// system.
func (t *treeReader) mountPoint(name string, info fs.FileInfo) error {
	const perm = 0o755
	if err := t.writer.Add(erofs.Entry{Name: name, Mode: uint16(syscall.S_IFDIR) | perm, Mtime: info.ModTime()}, nil); err != nil {
		return err
	}
	return fs.SkipDir
}

// owner returns the owner in the image. Files of an ordinary user belong to root there,
// as they do when that user's directory is shared with a machine.
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
