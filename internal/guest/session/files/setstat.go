package files

import (
	"errors"
	"math"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// errLinkMode refuses a mode for a link: links have no mode.
var errLinkMode = errors.New("chmod on symlink without following is not supported")

// A change is one step of changing attributes; nil is no step.
type change func() error

// apply makes changes in order until the first error. Changes made before it stay.
func apply(changes ...change) error {
	for _, c := range changes {
		if c == nil {
			continue
		}
		if err := c(); err != nil {
			return err
		}
	}
	return nil
}

// setStat changes the attributes of a file by its name: size, mode, owner and
// times, in the order of protocol section 9.4. A request without changes is a sync.
func setStat(op *wire.OpSetStat) error {
	name, follow, a := op.Path, op.FollowSymlink, &op.Attrs
	if follow && *a == (wire.FSAttrs{}) {
		return session.Failure("syncfs: ", sys.SyncDisk(name))
	}
	var size, mode, owner, times change
	if a.Size != nil {
		size = func() error { return truncate(name, *a.Size) }
	}
	if a.Mode != nil {
		mode = func() error { return chmod(name, follow, *a.Mode) }
	}
	if a.UID != nil || a.GID != nil {
		owner = func() error { return session.Failure("chown: ", sys.Chown(name, follow, id(a.UID), id(a.GID))) }
	}
	if a.Atime != nil || a.Mtime != nil {
		times = func() error {
			atime, mtime, err := timesOf(a, func() (sys.FileStat, error) { return sys.Stat(name, follow) })
			if err != nil {
				return session.Failure("stat before utimensat: ", err)
			}
			return session.Failure("utimensat: ", sys.SetTimes(name, follow, atime, mtime))
		}
	}
	return apply(size, mode, owner, times)
}

// setStat changes the attributes of an open file.
func (h *handle) setStat(a *wire.FSAttrs) error {
	var size, mode, owner, times change
	if a.Size != nil {
		size = func() error { return session.Failure("set_len: ", resize(h, *a.Size)) }
	}
	if a.Mode != nil {
		mode = func() error { return session.Failure("chmod: ", sys.ChmodFile(h.file, *a.Mode)) }
	}
	if a.UID != nil || a.GID != nil {
		owner = func() error { return session.Failure("fchown: ", sys.ChownFile(h.file, id(a.UID), id(a.GID))) }
	}
	if a.Atime != nil || a.Mtime != nil {
		times = func() error {
			// Ask the file itself: its name may belong to another file by now.
			atime, mtime, err := timesOf(a, func() (sys.FileStat, error) { return sys.StatFile(h.file) })
			if err != nil {
				return session.Failure("stat before futimens: ", err)
			}
			return session.Failure("futimens: ", sys.SetFileTimes(h.file, atime, mtime))
		}
	}
	return apply(size, mode, owner, times)
}

// errSize refuses a size above the largest int64, in the reference's words.
var errSize = errors.New("out of range integral type conversion attempted")

func resize(h *handle, size uint64) error {
	if size > math.MaxInt64 {
		return errSize
	}
	return sys.Truncate(h.file, int64(size))
}

// truncate opens the file without waiting, so that it refuses a fifo or a device.
func truncate(name string, size uint64) error {
	f, err := sys.OpenFile(name, sys.Access{Write: true})
	if err != nil {
		return session.Failure("open for truncate: ", err)
	}
	err = resize(&handle{file: f}, size)
	return session.Failure("set_len: ", errors.Join(err, f.Close()))
}

func chmod(name string, follow bool, mode uint32) error {
	if !follow {
		s, err := sys.Stat(name, false)
		if err != nil {
			return session.Failure("lstat before chmod: ", err)
		}
		if s.Type() == sys.ModeLink {
			return errLinkMode
		}
	}
	return session.Failure("chmod: ", sys.Chmod(name, mode))
}

// id returns a user or group for chown(2): -1 means no change.
func id(n *uint32) int {
	if n == nil {
		return -1
	}
	return int(*n)
}

// timesOf returns both times to set. A time that is not asked for stays as it is. It
// fails for a file that does not exist, whatever is asked for.
func timesOf(a *wire.FSAttrs, now func() (sys.FileStat, error)) (atime, mtime sys.Time, err error) {
	s, err := now()
	if err != nil {
		return atime, mtime, err
	}
	return timeOr(s.Atime, a.Atime, a.AtimeNsec), timeOr(s.Mtime, a.Mtime, a.MtimeNsec), nil
}

// timeOr is the time that is asked for, or else the time of now.
func timeOr(now sys.Time, sec *int64, nsec *uint32) sys.Time {
	if sec == nil {
		return now
	}
	t := sys.Time{Sec: *sec}
	if nsec != nil {
		t.Nsec = *nsec
	}
	return t
}
