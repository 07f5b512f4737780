//go:build unix

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// CopyTree copies the directory src to dst, which must be empty or not exist. It keeps
// modes, symbolic links, hard links within the tree, and times of files and
// directories; as root also the owners. The copy shares no inode with src, so a guest's
// writes to the copy never reach src.
//
// On btrfs and xfs the files share their blocks until they are written: the kernel does
// so when it copies between two files. Devices, pipes and sockets are refused, because
// no root that this package makes has any.
//
// After an error dst holds a part of the copy, which the caller removes.
func CopyTree(dst, src string) error {
	if err := copyTree(dst, src); err != nil {
		return fmt.Errorf("copy tree: %w", err)
	}
	return nil
}

func copyTree(dst, src string) error {
	src, err := filepath.EvalSymlinks(src)
	if err != nil {
		return err
	}
	if err := emptyDir(dst); err != nil {
		return err
	}
	if err := apart(dst, src); err != nil {
		return err
	}
	c := treeCopy{dst: dst, src: src, links: map[inode]string{}}
	if err := filepath.WalkDir(src, c.visit); err != nil {
		return err
	}
	return c.finishDirs()
}

// apart refuses to copy a directory into itself, which would never end.
func apart(dst, src string) error {
	dst, err := filepath.EvalSymlinks(dst)
	if err != nil {
		return err
	}
	a, errA := filepath.Abs(dst)
	s, errS := filepath.Abs(src)
	if err := errors.Join(errA, errS); err != nil {
		return err
	}
	if rel, err := filepath.Rel(s, a); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%s lies in %s", dst, src)
	}
	return nil
}

func emptyDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: not empty", dir)
	}
	return err
}

// An inode identifies a file. The types of its numbers differ between systems.
type inode struct{ dev, ino any }

type treeCopy struct {
	dst, src string
	links    map[inode]string // The first copied name of a file with several names.
	dirs     []copiedDir
}

type copiedDir struct {
	path string
	info fs.FileInfo
}

func (c *treeCopy) visit(p string, _ fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.src, p)
	if err != nil {
		return err
	}
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	to := filepath.Join(c.dst, rel)
	switch mode := info.Mode(); {
	case mode.IsDir():
		return c.dir(to, info)
	case mode.Type() == fs.ModeSymlink:
		return copySymlink(to, p, info)
	case mode.IsRegular():
		return c.file(to, p, info)
	}
	return fmt.Errorf("%s: neither a file, a directory nor a link", p)
}

// dir leaves the directory's mode and time to finishDirs, because files are still added
// to it.
func (c *treeCopy) dir(to string, info fs.FileInfo) error {
	c.dirs = append(c.dirs, copiedDir{to, info})
	if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// finishDirs works from the leaves up, for two reasons: changing a directory changes
// its parent's time, and the final mode may forbid the owner to enter.
func (c *treeCopy) finishDirs() error {
	for _, d := range slices.Backward(c.dirs) {
		if err := attributes(d.path, d.info); err != nil {
			return err
		}
	}
	return nil
}

func (c *treeCopy) file(to, from string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return os.Link(first, to)
		}
		c.links[id] = to
	}
	if err := copyFile(to, from); err != nil {
		return err
	}
	return attributes(to, info)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// Both ends must be plain files: only then does Go use copy_file_range, which
	// shares blocks.
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Close())
}

func copySymlink(to, from string, info fs.FileInfo) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Symlink(target, to); err != nil {
		return err
	}
	return owner(to, info)
}

// attributes sets the owner first, because a change of owner clears set-user-ID bits.
func attributes(path string, info fs.FileInfo) error {
	if err := owner(path, info); err != nil {
		return err
	}
	if err := os.Chmod(path, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}

func owner(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(st.Uid), int(st.Gid))
}
