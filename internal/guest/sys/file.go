package sys

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The functions of this file work on the guest's files by the guest's own names,
// links followed as the kernel does: they serve requests of the host, which may
// name whatever it likes. Their errors are, or wrap, error numbers (syscall.Errno)
// without the operation's name: the caller's protocol has its own form for that.

// Umasked is the mode of a new file before the umask where none is asked for.
const Umasked = 0o666

// The mode bits of a file (inode(7)).
const (
	ModeType     = unix.S_IFMT
	ModeRegular  = unix.S_IFREG
	ModeDir      = unix.S_IFDIR
	ModeLink     = unix.S_IFLNK
	ModeSettable = 0o7777
)

// FileStat is what stat(2) says of a file.
type FileStat struct {
	Mode         uint32
	Size         uint64
	UID, GID     uint32
	Atime, Mtime int64 // Seconds.
	Device, Node uint64
}

// Type is the sort of file, one of the Mode constants or another.
func (s *FileStat) Type() uint32 { return s.Mode & ModeType }

func statOf(st *unix.Stat_t) FileStat {
	return FileStat{
		Mode: st.Mode, Size: uint64(st.Size), UID: st.Uid, GID: st.Gid,
		Atime: st.Atim.Sec, Mtime: st.Mtim.Sec, Device: st.Dev, Node: st.Ino,
	}
}

// Stat describes a file, with follow the one that a link leads to.
func Stat(path string, follow bool) (FileStat, error) { return statAt(unix.AT_FDCWD, path, follow) }

// A FileID tells a file from every other and from itself after a change. IDs are
// equal if nothing was changed between them, as far as the clock of the file
// system can tell.
type FileID struct {
	device, node     uint64
	Size             int64
	modified, change unix.Timespec
}

// Changed is when the file or its attributes were changed last.
func (id FileID) Changed() time.Time { return time.Unix(id.change.Unix()) }

// On reports whether the file is on that device.
func (id FileID) On(device uint64) bool { return id.device == device }

// Identify returns the ID of a file, a link itself.
func Identify(path string) (FileID, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Lstat(path, &st) })
	return FileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, err
}

// StatIn describes the file name of an open directory, a link itself.
func StatIn(dir *os.File, name string) (s FileStat, err error) {
	err = control(dir, func(fd int) error {
		s, err = statAt(fd, name, false)
		return err
	})
	return s, err
}

func statAt(dir int, path string, follow bool) (FileStat, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(dir, path, &st, flags) })
	return statOf(&st), err
}

// StatFile describes an open file.
func StatFile(f *os.File) (FileStat, error) {
	var st unix.Stat_t
	err := control(f, func(fd int) error { return unix.Fstat(fd, &st) })
	return statOf(&st), err
}

// Access is how OpenFile opens a file (open(2)).
type Access struct {
	Read, Write, Append         bool
	Create, Truncate, Exclusive bool
	Directory                   bool
	Mode                        uint32 // Of a new file, before the umask.
}

func (a Access) flags() int {
	flags := unix.O_RDONLY
	if a.Write || a.Append {
		flags = unix.O_WRONLY
		if a.Read {
			flags = unix.O_RDWR
		}
	}
	for _, f := range []struct {
		set  bool
		flag int
	}{
		{a.Append, unix.O_APPEND},
		{a.Create || a.Exclusive, unix.O_CREAT},
		{a.Exclusive, unix.O_EXCL},
		{a.Truncate && !a.Exclusive, unix.O_TRUNC},
		{a.Directory, unix.O_DIRECTORY},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}

// OpenFile opens a file without waiting for the other side of a fifo or line: a
// fifo that nobody reads answers ENXIO to a writer, and what can be waited for is
// waited for in Go's poller. It never becomes our terminal.
func OpenFile(path string, a Access) (*os.File, error) {
	flags := a.flags() | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Open(path, flags, a.Mode&ModeSettable) })
	if err != nil {
		return nil, err
	}
	if err := unpolled(fd, flags&^unix.O_NONBLOCK); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// unpolled keeps files and directories out of the poller. Those of a file system
// with a server would be taken in: the server is asked what can be done, in a call
// that the runtime does not know to wait, and then all of the agent waits.
func unpolled(fd, flags int) error {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	if kind := st.Mode & ModeType; kind != ModeRegular && kind != ModeDir {
		return nil
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return err
}

// RealPath is the name without links of a file that is there.
func RealPath(path string) (string, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return ReadLink(descriptor(fd))
}

// descriptor is the name by which the kernel shows an open file.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ReadLink is the text of a link.
func ReadLink(path string) (string, error) {
	buf := make([]byte, unix.PathMax) // No link is longer (symlink(7)).
	n, err := retry(func() (int, error) { return unix.Readlink(path, buf) })
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Symlink makes path a link to target.
func Symlink(target, path string) error {
	return again(func() error { return unix.Symlink(target, path) })
}

// Unlink removes a file that is no directory.
func Unlink(path string) error { return again(func() error { return unix.Unlink(path) }) }

// Rmdir removes an empty directory.
func Rmdir(path string) error { return again(func() error { return unix.Rmdir(path) }) }

// Rename moves a file over whatever is called to.
func Rename(from, to string) error { return again(func() error { return unix.Rename(from, to) }) }

// SyncDisk writes what the kernel holds back of the file system that a directory is on
// to its disk, and waits for it. Nothing is done for what is no directory, and for files that
// the host serves (FUSE): it has what was written, and a sync would be one of its own disk.
func SyncDisk(dir string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Open(dir, flags, 0) })
	if err != nil {
		return nil // Nothing to write.
	}
	defer func() { _ = unix.Close(fd) }() // Read only: nothing to lose.
	var st unix.Statfs_t
	if again(func() error { return unix.Fstatfs(fd, &st) }) == nil && st.Type == fuseMagic {
		return nil
	}
	return again(func() error { return unix.Syncfs(fd) })
}

// MakeDirs makes a directory and its parents, as far as they are not there.
func MakeDirs(path string) error {
	const everything = 0o777 // Before the umask.
	mkdir := func() error { return again(func() error { return unix.Mkdir(path, everything) }) }
	err := mkdir()
	if err == nil || isDir(path) {
		return nil
	}
	parent := Parent(path)
	if err != unix.ENOENT || parent == path || path == "" { //nolint:errorlint // A bare number.
		return err
	}
	if err := MakeDirs(parent); err != nil {
		return err
	}
	if err := mkdir(); err != nil && !isDir(path) {
		return err
	}
	return nil
}

func isDir(path string) bool {
	s, err := Stat(path, true)
	return err == nil && s.Type() == ModeDir
}

// Parent is the directory that the last name of a path stands in, by the text
// alone: links and dots are left to the kernel.
func Parent(path string) string {
	path = strings.TrimRight(path, "/")
	i := strings.LastIndexByte(path, '/')
	switch {
	case i > 0:
		return strings.TrimRight(path[:i], "/") + "/"
	case i == 0 || path == "":
		return "/"
	}
	return "."
}

// Truncate gives an open file a size.
func Truncate(f *os.File, size int64) error {
	return control(f, func(fd int) error { return unix.Ftruncate(fd, size) })
}

// Chmod sets the mode of a file, links followed.
func Chmod(path string, mode uint32) error {
	return again(func() error { return unix.Chmod(path, mode&ModeSettable) })
}

// ChmodFile sets the mode of an open file.
func ChmodFile(f *os.File, mode uint32) error {
	return control(f, func(fd int) error { return unix.Fchmod(fd, mode&ModeSettable) })
}

// Chown sets the owner of a file; -1 leaves one as it is.
func Chown(path string, follow bool, uid, gid int) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	return again(func() error { return unix.Fchownat(unix.AT_FDCWD, path, uid, gid, flags) })
}

// ChownFile sets the owner of an open file; -1 leaves one as it is.
func ChownFile(f *os.File, uid, gid int) error {
	return control(f, func(fd int) error { return unix.Fchown(fd, uid, gid) })
}

// SetTimes sets the times of a file, in seconds.
func SetTimes(path string, follow bool, atime, mtime int64) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	times := []unix.Timespec{{Sec: atime}, {Sec: mtime}}
	return again(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, flags) })
}

// SetFileTimes sets the times of an open file, in seconds.
func SetFileTimes(f *os.File, atime, mtime int64) error {
	return control(f, func(fd int) error { return SetTimes(descriptor(fd), true, atime, mtime) })
}

// control calls with the descriptor of an open file, which stays open meanwhile.
func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = again(func() error { return call(int(fd)) })
	}); err != nil {
		return err
	}
	return failed
}

// again is retry for calls that return nothing else.
func again(call func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, call() })
	return err
}
