package sys

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The functions of this file take names as the kernel does, and follow links: they serve
// requests of the host, which may name any file. Their errors are, or wrap, error numbers
// (syscall.Errno) without the operation's name: the caller's protocol has its own form for
// that.

// Umasked is the default mode of a new file, before the umask.
const Umasked = 0o666

// The mode bits of a file (inode(7)).
const (
	ModeType     = unix.S_IFMT
	ModeRegular  = unix.S_IFREG
	ModeDir      = unix.S_IFDIR
	ModeLink     = unix.S_IFLNK
	ModeSettable = 0o7777
)

// FileStat has the facts about a file from stat(2).
type FileStat struct {
	Mode                uint32
	Size                uint64
	UID, GID            uint32
	Atime, Mtime, Ctime Time
	Device, Node        uint64
	Links               uint64
	Blocks              uint64 // Of 512 bytes.
}

// Time is a time of a file.
type Time struct {
	Sec  int64
	Nsec uint32
}

func timeOf(t unix.Timespec) Time { return Time{t.Sec, uint32(t.Nsec)} }

func (t Time) spec() unix.Timespec { return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)} }

// Type is the type of the file, one of the Mode constants or another.
func (s *FileStat) Type() uint32 { return s.Mode & ModeType }

func statOf(st *unix.Stat_t) FileStat {
	return FileStat{
		Mode: st.Mode, Size: uint64(st.Size), UID: st.Uid, GID: st.Gid,
		Atime: timeOf(st.Atim), Mtime: timeOf(st.Mtim), Ctime: timeOf(st.Ctim),
		Device: st.Dev, Node: st.Ino, Links: uint64(st.Nlink), Blocks: uint64(st.Blocks), //nolint:unconvert // Nlink has 32 bits on arm64.
	}
}

// Stat describes a file; follow follows a link in the last place.
func Stat(path string, follow bool) (FileStat, error) { return statAt(unix.AT_FDCWD, path, follow) }

// A FileID identifies a file and its last change. Two IDs are equal if they are of the same
// file and nothing was changed between them, as far as the clock of the file system can
// tell.
type FileID struct {
	device, node     uint64
	Size             int64
	modified, change unix.Timespec
}

// Changed is when the file or its attributes were changed last.
func (id FileID) Changed() time.Time { return time.Unix(id.change.Unix()) }

// On reports whether the file is on that device.
func (id FileID) On(device uint64) bool { return id.device == device }

// Identify returns the ID of a file. It does not follow a link.
func Identify(path string) (FileID, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Lstat(path, &st) })
	return FileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, err
}

// StatIn describes the file name of an open directory. It does not follow a link.
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

// OpenFile opens a file without waiting for the other side of a fifo or serial line. A
// fifo without a reader is ENXIO to a writer. Reads and writes that must wait do so in Go's
// poller. The file never becomes the agent's controlling terminal.
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

// unpolled keeps files and directories out of the poller. The poller would accept those of
// a file system with a server (FUSE). It would then ask the server in a call that the
// runtime does not expect to wait, and the whole agent would wait.
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

// RealPath returns the path of an existing file with all links resolved.
func RealPath(path string) (string, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	return ReadLink(descriptor(fd))
}

// descriptor is the path of an open file in /proc.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ReadLink returns the target of a link.
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

// Rename renames a file, and replaces a file that has the new name.
func Rename(from, to string) error { return again(func() error { return unix.Rename(from, to) }) }

// SyncDisk syncs the file system of a directory to its disk and waits for that. It does
// nothing for a name that is no directory, and for a file system that the host serves
// (FUSE): the host has the data already, and a sync would be one of the host's own disk.
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

// MakeDirs makes a directory and its missing parents.
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

// Parent returns a path without its last name. It works on the text only: links and dots
// are left to the kernel.
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

// Chown sets the owner and the group of a file; -1 means no change.
func Chown(path string, follow bool, uid, gid int) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	return again(func() error { return unix.Fchownat(unix.AT_FDCWD, path, uid, gid, flags) })
}

// ChownFile sets the owner and the group of an open file; -1 means no change.
func ChownFile(f *os.File, uid, gid int) error {
	return control(f, func(fd int) error { return unix.Fchown(fd, uid, gid) })
}

// SetTimes sets the times of a file.
func SetTimes(path string, follow bool, atime, mtime Time) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	times := []unix.Timespec{atime.spec(), mtime.spec()}
	return again(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, flags) })
}

// SetFileTimes sets the times of an open file.
func SetFileTimes(f *os.File, atime, mtime Time) error {
	return control(f, func(fd int) error { return SetTimes(descriptor(fd), true, atime, mtime) })
}

// control calls call with the descriptor of an open file or socket, which stays open meanwhile.
func control(f syscall.Conn, call func(fd int) error) error {
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

// again is retry for calls that return only an error.
func again(call func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, call() })
	return err
}
