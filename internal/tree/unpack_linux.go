package tree

import (
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
)

// An Unpacker makes files from an archive, beneath a directory.
type Unpacker struct {
	Report Report

	how    Unpack
	from   *pax.Reader
	levels []*dir // From the top to the directory of the last member.
	batch  batch
	prefix string // Of temporary names.
	serial uint64
}

// A dir is an open directory of the target.
type dir struct {
	fd    int
	name  string // The last part of its name.
	fresh bool   // It was made by this unpacker: nothing is in it that is not ours.
	head  *pax.Header
	uses  int // Files in the batch, and 1 while it is in levels.
}

// NewUnpacker makes the directory to unpack into, if it does not exist; the last part of its name must
// not be a link unless follow is set. The caller closes the unpacker.
func NewUnpacker(name string, follow bool, from *pax.Reader, how Unpack) (*Unpacker, error) {
	flags := openDir | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fresh := false
	open := func() (int, error) { return retry(func() (int, error) { return unix.Open(name, flags, 0) }) }
	fd, err := open()
	if errors.Is(err, unix.ENOENT) {
		if err = makeDirs(name); err == nil {
			fresh = true
			fd, err = open()
		}
	}
	if err != nil {
		return nil, err
	}
	return &Unpacker{
		how: how, from: from, prefix: tempPrefix(),
		levels: []*dir{{fd: fd, fresh: fresh, uses: 1}},
	}, nil
}

const (
	earlyDir  = 0o700 // Of a directory until its mode is set: nobody else sees an incomplete tree.
	earlyFile = 0o600
	otherDir  = 0o755 // Of a directory that no member describes.
)

// makeDirs makes a directory, and its missing parents.
func makeDirs(name string) error {
	err := again(func() error { return unix.Mkdir(name, earlyDir) })
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	parent := strings.TrimRight(name, "/")
	parent = strings.TrimRight(parent[:strings.LastIndexByte(parent, '/')+1], "/")
	if parent == "" {
		return err
	}
	if err := makeDirs(parent); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	_ = unix.Chmod(parent, otherDir) // Made just now; only its mode differs.
	return again(func() error { return unix.Mkdir(name, earlyDir) })
}

// Run unpacks the archive. Members that fail are in the report, and the others are unpacked.
// An error ends it; members before it are complete.
func (u *Unpacker) Run() error {
	err := u.members()
	for len(u.levels) > 1 {
		u.leave()
	}
	return errors.Join(err, u.settle())
}

// Close closes what is open.
func (u *Unpacker) Close() {
	for _, d := range u.levels {
		closeFD(d.fd)
	}
	u.levels = nil
}

func (u *Unpacker) members() error {
	for {
		h, err := u.from.Next()
		if errors.Is(err, io.EOF) {
			return u.from.Drain()
		}
		if err == nil {
			err = u.member(h)
		}
		if err != nil {
			return err
		}
	}
}

// member unpacks one member. It returns only the errors that end the unpacking.
func (u *Unpacker) member(h *pax.Header) error {
	parts, err := Split(h.Name)
	if err != nil {
		return err
	}
	if parts != nil && u.how.Accept != nil && !u.how.Accept(h) {
		return nil
	}
	op, err := u.make(h, parts)
	if err == nil {
		u.Report.Entries++
		if u.how.Done != nil {
			u.how.Done(h)
		}
		return nil
	}
	if fatal(err) {
		return err
	}
	u.Report.Problem(op, h.Name, err)
	return nil
}

// A readError is an error of the archive, not of a file.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// fatal reports whether an error would befall all further members too.
func fatal(err error) bool {
	if _, ok := errors.AsType[readError](err); ok {
		return true
	}
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var (
	errTop   = errors.New("the directory itself is no directory in the archive")
	errDepth = errors.New("lies in more than " + strconv.Itoa(MaxDepth) + " directories")
)

// make makes a member. op is for its error.
func (u *Unpacker) make(h *pax.Header, parts []string) (op string, err error) {
	if len(parts) == 0 {
		if h.Kind != pax.Directory {
			return "unpack", errTop
		}
		u.levels[0].head = h
		return "", nil
	}
	if len(parts) > MaxDepth {
		return "unpack", errDepth
	}
	last := len(parts) - 1
	if err := u.down(parts[:last]); err != nil {
		return "mkdir", err
	}
	base := parts[last]
	switch h.Kind {
	case pax.Directory:
		err := u.enter(base, earlyDir)
		if err == nil {
			u.levels[len(u.levels)-1].head = h
		}
		return "mkdir", err
	case pax.Regular:
		return u.file(h, base)
	case pax.HardLink:
		return "link", u.hardLink(h, base)
	case pax.Symlink:
		return "symlink", u.special(h, base)
	case pax.CharDevice, pax.BlockDevice, pax.Fifo:
		if !u.how.Devices {
			return "mknod", ErrDevice
		}
		return "mknod", u.special(h, base)
	}
	return "unpack", errors.ErrUnsupported
}

// here is the directory of the current member.
func (u *Unpacker) here() *dir { return u.levels[len(u.levels)-1] }

// down goes to the directory of those parts. It leaves the others, and makes missing ones.
func (u *Unpacker) down(parts []string) error {
	same := 0
	for same < len(parts) && same+1 < len(u.levels) && u.levels[same+1].name == parts[same] {
		same++
	}
	for len(u.levels) > same+1 {
		u.leave()
	}
	for _, part := range parts[same:] {
		if err := u.enter(part, otherDir); err != nil {
			return err
		}
	}
	return nil
}

// enter goes into a directory, which it makes if it does not exist.
func (u *Unpacker) enter(name string, mode uint32) error {
	parent := u.here()
	d := &dir{name: name, uses: 1}
	err := again(func() error { return unix.Mkdirat(parent.fd, name, mode) })
	if d.fresh = err == nil; err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	d.fd, err = openat(parent.fd, name, openDir, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		if !u.how.Replace {
			return unix.ENOTDIR
		}
		if err = u.unlink(parent, name, 0); err == nil {
			return u.enter(name, mode)
		}
	}
	if err != nil {
		return err
	}
	u.levels = append(u.levels, d)
	return nil
}

// unlink removes a name of a directory. One that has gone is no error.
func (u *Unpacker) unlink(d *dir, name string, flags int) error {
	err := again(func() error { return unix.Unlinkat(d.fd, name, flags) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// leave leaves the deepest directory. It gets its attributes when no file of the batch is
// in it.
func (u *Unpacker) leave() {
	d := u.here()
	u.levels = u.levels[:len(u.levels)-1]
	u.release(d)
}

// release ends a use of a directory. After the last it gets its attributes.
func (u *Unpacker) release(d *dir) {
	if d.uses--; d.uses > 0 {
		return
	}
	u.describeDir(d)
	closeFD(d.fd)
}

func (u *Unpacker) describeDir(d *dir) {
	h := d.head
	if h == nil {
		return
	}
	if err := u.describe(h, d.fd, d.fd, "."); err != nil {
		u.Report.Problem("set attributes", h.Name, err)
	}
}

// describe sets the attributes of an open file or directory, which is also the name base of
// the directory at. The order matters: a change of the owner clears mode bits and capabilities.
func (u *Unpacker) describe(h *pax.Header, fd, at int, base string) error {
	if u.how.Owners {
		if err := again(func() error { return unix.Fchown(fd, int(h.UID), int(h.GID)) }); err != nil {
			return err
		}
	}
	if u.how.Xattrs {
		u.setXattrs(h, fd, "")
	}
	if err := setTime(h, at, base); err != nil {
		return err
	}
	return again(func() error { return unix.Fchmod(fd, h.Mode&^u.how.Clear) })
}

// setTime sets the time of a file, and never that of a link's target.
func setTime(h *pax.Header, at int, base string) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: h.Sec, Nsec: h.Nsec}}
	return again(func() error { return unix.UtimesNanoAt(at, base, times, unix.AT_SYMLINK_NOFOLLOW) })
}

// tempPrefix returns the beginning of one unpacker's temporary names. Package crypto/rand would
// cost the guest 200 KiB.
func tempPrefix() string {
	var b [8]byte
	_, _ = retry(func() (int, error) { return unix.Getrandom(b[:], unix.GRND_NONBLOCK) }) // Without entropy two unpackers may meet, and one gets an error.
	return TempPrefix + strconv.FormatUint(binary.NativeEndian.Uint64(b[:]), 36) + "-"
}

// temp returns a temporary name. Its length does not depend on the file's, which may be
// as long as names can be.
func (u *Unpacker) temp() string {
	u.serial++
	return u.prefix + strconv.FormatUint(u.serial, 36)
}

// batchFor is how long a file waits for the others of its batch.
const batchFor = time.Second
