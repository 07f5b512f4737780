package sys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ReadFile reads the regular file name; one of more than limit bytes is an error
// and the first limit bytes. Reading follows
// links, as far as they stay inside the root: images link their account files.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	fd, size, err := r.openRegular(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }() // Read only: nothing to lose.
	b, err := readAll(fd, size, limit)
	if err != nil {
		return b, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

// readAll reads an open file from where it stands to its end; size is a guess.
func readAll(fd int, size, limit int64) ([]byte, error) {
	// One more than the file has: the end shows in the second read.
	b := make([]byte, min(max(size, 0), limit)+1)
	n := 0
	for {
		more, err := retry(func() (int, error) { return unix.Read(fd, b[n:]) })
		if err != nil {
			return b[:n], err
		}
		if n += more; more == 0 {
			return b[:n], nil
		}
		if int64(n) > limit {
			return b[:limit], fmt.Errorf("larger than %d bytes", limit)
		}
		if n == len(b) { // It has grown, or its file system does not tell sizes.
			b = slices.Grow(b, len(b))
			b = b[:min(int64(cap(b)), limit+1)]
		}
	}
}

var errNotRegular = errors.New("not a regular file")

// openRegular opens name for reading and refuses anything but a regular file.
func (r *Root) openRegular(name string) (fd int, size int64, err error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err = retry(func() (int, error) { return unix.Openat2(r.fd, relative(name), &how) })
	if err != nil {
		return -1, 0, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, 0, &fs.PathError{Op: "open", Path: name, Err: errors.Join(err, errNotRegular)}
	}
	return fd, st.Size, nil
}

// WriteFile puts data under name, whole or not at all: it is written beside the
// name and renamed over whatever is there, a dangling link or a fifo included.
// Missing parents are made with mode 0755.
func (r *Root) WriteFile(name string, data []byte, perm uint32) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	return replace(dir, base, name, data, perm)
}

// RenewFile is WriteFile for a file that every boot asks for. One that is as it is to
// be is left alone. Where nothing has the name yet the file is written under it: that
// is half as many turns to a host that serves the root, and no rename for a root of
// layers. A boot that is cut short may then leave a part of the file, which nobody
// reads before the next one replaces it.
func (r *Root) RenewFile(name string, data []byte, perm uint32) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	err = writeNew(dir, base, data, perm)
	if errors.Is(err, unix.EEXIST) {
		if holds(dir, base, data, perm) {
			return nil
		}
		return replace(dir, base, name, data, perm)
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// NewFile makes the file name where nothing has the name, a link that leads nowhere
// included; else the error is [fs.ErrExist] and nothing is changed.
func (r *Root) NewFile(name string, data []byte, perm uint32) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	if err := writeNew(dir, base, data, perm); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// holds reports whether the file name of dir is as writeNew would make it. It is
// opened only if it may be.
func holds(dir int, name string, data []byte, perm uint32) bool {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode != unix.S_IFREG|perm ||
		st.Nlink != 1 || st.Size != int64(len(data)) || st.Uid != uint32(os.Geteuid()) {
		return false
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags, 0) })
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // Read only: nothing to lose.
	is, err := readAll(fd, st.Size, st.Size)
	return err == nil && bytes.Equal(is, data)
}

// replace is WriteFile for the file base of dir; name is for errors.
func replace(dir int, base, name string, data []byte, perm uint32) error {
	temp := "." + base + ".agentd"
	err := writeNew(dir, temp, data, perm)
	if errors.Is(err, unix.EEXIST) { // Left by a boot that was cut short.
		if err = unix.Unlinkat(dir, temp, 0); err == nil || errors.Is(err, unix.ENOENT) {
			err = writeNew(dir, temp, data, perm)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	if err := unix.Renameat(dir, temp, dir, base); err != nil {
		_ = unix.Unlinkat(dir, temp, 0) // The rename's error is the one to tell.
		return &fs.PathError{Op: "rename", Path: name, Err: err}
	}
	return nil
}

// writeNew makes the file name of dir with exactly perm; EEXIST says that something
// has the name. On a root that the host serves each call is a turn to it: none is
// made that changes nothing.
func writeNew(dir int, name string, data []byte, perm uint32) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags, perm) })
	if err != nil {
		return err
	}
	err = errors.Join(fill(fd, data, perm), unix.Close(fd))
	if err != nil {
		_ = unix.Unlinkat(dir, name, 0)
	}
	return err
}

// fill gives a new file its mode, of which the umask may have taken a part, and
// its content.
func fill(fd int, data []byte, perm uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&0o7777 != perm {
		if err := unix.Fchmod(fd, perm); err != nil {
			return err
		}
	}
	return writeAll(fd, data)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, data) })
		if err == nil && n == 0 {
			err = io.ErrShortWrite // A server of files that takes nothing must not keep us.
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// ErrNotAlone is what Append returns for a file that has other names or is a mount:
// what is written there would change more than the name says.
var ErrNotAlone = errors.New("the file has other names, or is a mount")

// Append adds to the regular file name what more makes of its content, which is
// limit bytes at most: all of that or, if writing fails, nothing. No link is
// followed. The file keeps its owner, its mode and everything else that it has.
func (r *Root) Append(name string, limit int64, more func(old []byte) []byte) error {
	fd, err := r.open(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	if err := errors.Join(appendTo(fd, limit, more), unix.Close(fd)); err != nil {
		return &fs.PathError{Op: "append", Path: name, Err: err}
	}
	return nil
}

func appendTo(fd int, limit int64, more func(old []byte) []byte) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNotRegular
	}
	if st.Nlink != 1 || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return ErrNotAlone
	}
	old, err := readAll(fd, int64(min(st.Size, uint64(limit))), limit)
	if err != nil {
		return err
	}
	if err := writeAll(fd, more(old)); err != nil { // After what was read.
		return errors.Join(err, unix.Ftruncate(fd, int64(len(old))))
	}
	return nil
}
