package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// maxTreeDepth bounds the levels of a tree that is removed, each of which takes
// some 300 bytes with the longest name: 5 MiB. A path leads down 2,048 of them,
// and reference agents, with a descriptor for each, get down a thousand.
const maxTreeDepth = 1 << 14

// A tree is a directory that is being removed. Two descriptors suffice for any depth: the
// way back up is "..", after a check that it is still the same directory.
type tree struct {
	at    int     // The directory that is being emptied.
	above []level // Its parents, from the top.
	buf   []byte  // For names.
}

// A level is a directory that waits until a directory in it is removed.
type level struct {
	device, node uint64
	child        string
}

// RemoveTree removes a directory and all that is in it, up to the first error. It
// follows no link.
func RemoveTree(path string) error {
	err := Rmdir(path)
	if !isFull(err) {
		return err
	}
	top, err := retry(func() (int, error) { return unix.Open(path, treeFlags, 0) })
	if err != nil {
		return err
	}
	const names = 8 << 10
	t := tree{at: top, buf: make([]byte, names)}
	defer func() { _ = unix.Close(t.at) }() // Read only: nothing to lose.
	if err := t.empty(); err != nil {
		return err
	}
	return Rmdir(path)
}

const treeFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// isFull reports whether a directory was not removed because something is in it, or is
// mounted on it; the latter shows only when it is empty.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY)
}

// empty empties the top.
func (t *tree) empty() error {
	for {
		child, err := t.sweep()
		switch {
		case err != nil:
		case child != "":
			err = t.down(child)
		case len(t.above) == 0:
			return nil
		default:
			err = t.up()
		}
		if err != nil {
			return err
		}
	}
}

// sweep empties the directory, or stops at a directory in it that has to be emptied first.
func (t *tree) sweep() (child string, err error) {
	for found := true; found; { // A reading during changes may miss names.
		if _, err := unix.Seek(t.at, 0, unix.SEEK_SET); err != nil {
			return "", err
		}
		if found, child, err = t.pass(); err != nil || child != "" {
			return child, err
		}
	}
	return "", nil
}

// pass is one reading of the directory.
func (t *tree) pass() (found bool, child string, err error) {
	var names []string
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(t.at, t.buf) })
		if err != nil || n <= 0 {
			return found, "", err
		}
		_, _, names = unix.ParseDirent(t.buf[:n], -1, names[:0])
		for _, name := range names {
			found = true
			full, err := t.remove(name)
			if full {
				child = name
			}
			if full || err != nil {
				return true, child, err
			}
		}
	}
}

// remove removes a file or a directory, unless that is full.
func (t *tree) remove(name string) (full bool, err error) {
	err = t.unlink(name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return false, err
	}
	if err = t.unlink(name, unix.AT_REMOVEDIR); isFull(err) {
		return true, nil
	}
	return false, err
}

// unlink removes a name. A name that is gone already is no error.
func (t *tree) unlink(name string, flags int) error {
	err := again(func() error { return unix.Unlinkat(t.at, name, flags) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// down enters a directory.
func (t *tree) down(child string) error {
	if len(t.above) == maxTreeDepth {
		return unix.ENAMETOOLONG
	}
	var st unix.Stat_t
	if err := unix.Fstat(t.at, &st); err != nil {
		return err
	}
	if err := t.enter(child); err != nil {
		return err
	}
	t.above = append(t.above, level{st.Dev, st.Ino, child})
	return nil
}

// up goes back to the parent and removes the directory that it leaves.
func (t *tree) up() error {
	last := t.above[len(t.above)-1]
	t.above = t.above[:len(t.above)-1]
	if err := t.enter(".."); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(t.at, &st); err != nil {
		return err
	}
	if st.Dev != last.device || st.Ino != last.node {
		return unix.EAGAIN // The directory was moved: its parent is not the one to empty.
	}
	return t.unlink(last.child, unix.AT_REMOVEDIR)
}

func (t *tree) enter(name string) error {
	next, err := retry(func() (int, error) { return unix.Openat(t.at, name, treeFlags, 0) })
	if err != nil {
		return err
	}
	_ = unix.Close(t.at)
	t.at = next
	return nil
}
