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

// ReadFile reads the regular file name. For a file of more than limit bytes it returns the
// first limit bytes and an error. It follows links that stay inside the root: images link
// their account files.
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

// readAll reads an open file from its position to its end; size is a guess.
func readAll(fd int, size, limit int64) ([]byte, error) {
	// One byte more than the file has, so that the second read finds the end.
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
		if n == len(b) { // The file has grown, or its file system shows no size.
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

// WriteFile writes data to the file name, whole or not at all: it writes a temporary file
// and renames it over the name, also over a dangling link or a fifo. Missing parents are
// made with mode 0755.
func (r *Root) WriteFile(name string, data []byte, perm uint32) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	return replace(dir, base, name, data, perm)
}

// RenewFile is WriteFile for a file that every boot writes. A file that has the wanted
// content already is left alone. If nothing has the name yet, the file is written in
// place: that takes half as many requests to a host that serves the root, and no rename on
// a root of layers. An interrupted boot may then leave a part of the file; the next boot
// replaces it before anything reads it.
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
	return pathError("write", name, err)
}

// NewFile makes the file name if nothing has the name. If anything has it, also a dangling
// link, the error is [fs.ErrExist] and nothing is changed.
func (r *Root) NewFile(name string, data []byte, perm uint32) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	return pathError("write", name, writeNew(dir, base, data, perm))
}

// holds reports whether the file name of dir is as writeNew would make it. It opens the
// file only if its attributes are right.
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
	if errors.Is(err, unix.EEXIST) { // Left by an interrupted boot.
		if err = unix.Unlinkat(dir, temp, 0); err == nil || errors.Is(err, unix.ENOENT) {
			err = writeNew(dir, temp, data, perm)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	if err := unix.Renameat(dir, temp, dir, base); err != nil {
		_ = unix.Unlinkat(dir, temp, 0) // Report the rename's error.
		return &fs.PathError{Op: "rename", Path: name, Err: err}
	}
	return nil
}

// writeNew makes the file name of dir with exactly perm; EEXIST says that something has
// the name. Each call is a request to a host that serves the root, so it makes no call
// that changes nothing.
func writeNew(dir int, name string, data []byte, perm uint32) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags, perm) })
	if err != nil {
		return err
	}
	err = errors.Join(writeContent(fd, data, perm), unix.Close(fd))
	if err != nil {
		_ = unix.Unlinkat(dir, name, 0)
	}
	return err
}

// writeContent gives a new file its content, and its mode, which the umask may have changed.
func writeContent(fd int, data []byte, perm uint32) error {
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
			err = io.ErrShortWrite // Do not loop for a file server that takes nothing.
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// ErrNotAlone is returned by Append for a file that has other names or is a mount: a write
// would change files under other names.
var ErrNotAlone = errors.New("the file has other names, or is a mount")

// Append appends the result of more, which gets the content, to the regular file name of at
// most limit bytes. It appends all or, if the write fails, nothing. It follows no link. The
// file keeps its owner and all other attributes.
func (r *Root) Append(name string, limit int64, more func(old []byte) []byte) error {
	fd, err := r.open(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	return pathError("append", name, errors.Join(appendTo(fd, limit, more), unix.Close(fd)))
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
