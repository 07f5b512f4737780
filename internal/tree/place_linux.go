package tree

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
)

// file makes a regular file from the contents that follow.
func (u *Unpacker) file(h *pax.Header, base string) (op string, err error) {
	d, temp := u.here(), u.temp()
	old, err := u.old(d, base)
	if err != nil {
		return "replace", err
	}
	fd, err := openat(d.fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, earlyFile)
	if err != nil {
		return "create", err
	}
	op, err = u.fill(h, fd)
	if err == nil && old != nil && !u.how.Owners {
		op, err = "chown", own(fd, old)
	}
	if err == nil {
		op, err = "set attributes", u.describe(h, fd, d.fd, temp)
	}
	if failed := unix.Close(fd); err == nil && failed != nil {
		op, err = "close", failed
	}
	if err != nil {
		return op, errors.Join(err, u.unlink(d, temp, 0))
	}
	return "rename", u.place(h, temp, base)
}

// old describes the file that a member replaces; nil if there is none, or it is none of a
// regular file. It refuses a directory.
func (u *Unpacker) old(d *dir, base string) (*unix.Stat_t, error) {
	if d.fresh {
		return nil, nil //nolint:nilnil // Nothing is there.
	}
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil //nolint:nilnil // Nothing is there.
	case err != nil:
		return nil, err
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		return &st, nil
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return nil, nil //nolint:nilnil // The rename replaces it.
	case u.how.Replace:
		return nil, u.unlink(d, base, unix.AT_REMOVEDIR)
	}
	return nil, unix.EISDIR
}

// own gives a file the owner of the one that it replaces. That an ordinary user may not is
// no error: to replace a file one needs only the right to write its directory.
func own(fd int, old *unix.Stat_t) error {
	if int(old.Uid) == unix.Geteuid() && int(old.Gid) == unix.Getegid() {
		return nil
	}
	err := again(func() error { return unix.Fchown(fd, int(old.Uid), int(old.Gid)) })
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// fill writes the contents that follow to a file.
func (u *Unpacker) fill(h *pax.Header, fd int) (op string, err error) {
	w := writing{u: u, fd: fd, rest: pieces(h)}
	for {
		b, err := u.from.Data()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "read", readError{err}
		}
		if err := w.write(b); err != nil {
			return "write", err
		}
	}
	if h.Extents != nil && w.at < h.Size {
		return "truncate", again(func() error { return unix.Ftruncate(fd, h.Size) })
	}
	return "", nil
}

// A writing is a file to which its pieces are written.
type writing struct {
	u    *Unpacker
	fd   int
	rest []pax.Extent
	at   int64 // The end of what was written.
}

func (w *writing) write(b []byte) error {
	for len(b) > 0 {
		for w.rest[0].Length == 0 {
			w.rest = w.rest[1:]
		}
		e := &w.rest[0]
		part := b[:min(int64(len(b)), e.Length)]
		n, err := retry(func() (int, error) { return unix.Pwrite(w.fd, part, e.Offset) })
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
		e.Offset, e.Length = e.Offset+int64(n), e.Length-int64(n)
		w.at, b = e.Offset, b[n:]
		w.u.Report.Bytes += uint64(n)
		if w.u.how.Wrote != nil {
			w.u.how.Wrote(n)
		}
	}
	return nil
}

// special makes a link, a device or a fifo.
func (u *Unpacker) special(h *pax.Header, base string) error {
	d, temp := u.here(), u.temp()
	if _, err := u.old(d, base); err != nil {
		return err
	}
	if err := again(func() error { return create(h, d.fd, temp) }); err != nil {
		return err
	}
	if err := u.describeSpecial(h, d.fd, temp); err != nil {
		return errors.Join(err, u.unlink(d, temp, 0))
	}
	return u.place(h, temp, base)
}

func create(h *pax.Header, at int, name string) error {
	if h.Kind == pax.Symlink {
		return unix.Symlinkat(h.Link, at, name)
	}
	mode, device := uint32(unix.S_IFIFO), 0
	if h.Kind != pax.Fifo {
		mode, device = unix.S_IFCHR, int(unix.Mkdev(h.Major, h.Minor))
	}
	if h.Kind == pax.BlockDevice {
		mode = unix.S_IFBLK
	}
	return unix.Mknodat(at, name, mode|earlyFile, device)
}

// describeSpecial sets the attributes of what cannot be opened.
func (u *Unpacker) describeSpecial(h *pax.Header, at int, name string) error {
	if u.how.Owners {
		err := again(func() error {
			return unix.Fchownat(at, name, int(h.UID), int(h.GID), unix.AT_SYMLINK_NOFOLLOW)
		})
		if err != nil {
			return err
		}
	}
	if u.how.Xattrs {
		u.setXattrs(h, at, name)
	}
	if h.Kind != pax.Symlink { // Links have no mode. Ours has this name, so nothing is followed.
		if err := again(func() error { return unix.Fchmodat(at, name, h.Mode&^u.how.Clear, 0) }); err != nil {
			return err
		}
	}
	if err := setTime(h, at, name); err != nil && h.Kind != pax.Symlink { // Some file systems have no times of links.
		return err
	}
	return nil
}

// errNoFile refuses a second name of something else than a file.
var errNoFile = errors.New("the first name is not that of a file")

// hardLink gives a file of the target a second name.
func (u *Unpacker) hardLink(h *pax.Header, base string) error {
	parts, err := Split(h.Link)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return errNoFile
	}
	d, temp := u.here(), u.temp()
	if _, err := u.old(d, base); err != nil {
		return err
	}
	at, first, err := u.find(parts)
	if err != nil {
		return err
	}
	defer closeFD(at)
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstatat(at, first, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNoFile
	}
	if err := again(func() error { return unix.Linkat(at, first, d.fd, temp, 0) }); err != nil {
		return err
	}
	return u.place(h, temp, base)
}

// find opens the directory of a file of the target, and returns the file's current name in
// it, which is temporary while the file is in the batch.
func (u *Unpacker) find(parts []string) (at int, base string, err error) {
	at, err = openat(u.levels[0].fd, ".", openDir, 0)
	last := len(parts) - 1
	for _, part := range parts[:last] {
		if err != nil {
			return -1, "", err
		}
		above := at
		at, err = openat(above, part, openDir, 0)
		closeFD(above)
	}
	if err != nil {
		return -1, "", err
	}
	base = parts[last]
	if temp, waits := u.batch.temp(at, base); waits {
		base = temp
	}
	return at, base, nil
}
