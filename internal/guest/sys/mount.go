package sys

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MountFlags are the attributes of a mount.
type MountFlags uint8

// The attributes; a mount always has relatime, which is the kernel's default.
const (
	ReadOnly MountFlags = 1 << iota
	NoExec
	NoSUID
	NoDev
)

// attributes has the kernel's number and the word of mount(8) for each flag, in the order
// of their bits.
var attributes = [...]struct {
	attr int
	name string
}{
	{unix.MOUNT_ATTR_RDONLY, "ro"},
	{unix.MOUNT_ATTR_NOEXEC, "noexec"},
	{unix.MOUNT_ATTR_NOSUID, "nosuid"},
	{unix.MOUNT_ATTR_NODEV, "nodev"},
}

func (f MountFlags) attributes() (attr int) {
	for i, a := range attributes {
		if f&(1<<i) != 0 {
			attr |= a.attr
		}
	}
	return attr
}

// String returns the words of mount(8), joined by commas.
func (f MountFlags) String() string {
	var words []string
	for i, a := range attributes {
		if f&(1<<i) != 0 {
			words = append(words, a.name)
		}
	}
	return strings.Join(words, ",")
}

// A Mount is one file system and the place for it.
type Mount struct {
	Source, Type string
	Target       string // A directory beneath the root.
	Flags        MountFlags
	Data         string // The file system's options, comma separated.
}

// String names the mount in an error.
func (m Mount) String() string {
	what := "type " + m.Type
	if m.Flags != 0 {
		what += ", " + m.Flags.String()
	}
	return fmt.Sprintf("mount %s (%s) on %s", m.Source, what, m.Target)
}

// A MountError says which mount the kernel refused and why.
type MountError struct {
	Mount

	Log string // What the file system itself said, may be empty.
	Err error
}

func (e *MountError) Error() string {
	s := e.String() + ": " + e.Err.Error()
	if e.Log != "" {
		s += ": " + e.Log
	}
	return s
}

func (e *MountError) Unwrap() error { return e.Err }

const fuseMagic = 0x65735546 // FUSE_SUPER_MAGIC, include/uapi/linux/magic.h.

// magic is the number of a file system that a root may bring along already
// mounted, as statfs(2) has it.
func magic(fstype string) int64 {
	switch fstype {
	case "devtmpfs", "tmpfs":
		return unix.TMPFS_MAGIC
	case "proc":
		return unix.PROC_SUPER_MAGIC
	case "sysfs":
		return unix.SYSFS_MAGIC
	case "cgroup2":
		return unix.CGROUP2_SUPER_MAGIC
	case "devpts":
		return unix.DEVPTS_SUPER_MAGIC
	case "virtiofs":
		return fuseMagic
	}
	return 0
}

// Mount mounts a file system at its target, over any mount that is there. The target is a
// directory; a missing one is made with its parents (mode 0755).
func (r *Root) Mount(m Mount) error {
	_, err := r.mount(m, false)
	return err
}

// MountOnce is Mount unless a file system of the same type is mounted there already;
// mounted is false then.
func (r *Root) MountOnce(m Mount) (mounted bool, err error) { return r.mount(m, true) }

func (r *Root) mount(m Mount, once bool) (mounted bool, err error) {
	at, err := r.mkdirAll(m.Target, 0o755, !once)
	if err != nil {
		return false, &MountError{Mount: m, Err: err}
	}
	defer func() { _ = unix.Close(at) }()
	if once {
		there, err := already(at, m.Type)
		if err != nil {
			return false, &MountError{Mount: m, Err: err}
		}
		if there {
			return false, nil
		}
	}
	fs, log, err := newMount(m)
	if err != nil {
		return false, &MountError{Mount: m, Log: log, Err: err}
	}
	defer func() { _ = unix.Close(fs) }()
	if err := place(fs, at); err != nil {
		return false, &MountError{Mount: m, Err: err}
	}
	return true, nil
}

// place attaches a detached mount to the file or directory that at is open on.
func place(mount, at int) error {
	return unix.MoveMount(mount, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// IsMount reports whether the directory name is the root of a mount.
func (r *Root) IsMount(name string) (bool, error) {
	at, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(at) }() // O_PATH: close has nothing to report.
	return isMount(at)
}

// isMount reports whether at is the root of a mount.
func isMount(at int) (bool, error) {
	var stx unix.Statx_t
	if err := unix.Statx(at, "", unix.AT_EMPTY_PATH, 0, &stx); err != nil {
		return false, os.NewSyscallError("statx", err)
	}
	return stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// already reports whether at is the root of a mount of the type.
func already(at int, fstype string) (bool, error) {
	if there, err := isMount(at); !there {
		return false, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(at, &st); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	return st.Type == magic(fstype), nil
}

// newMount makes a detached mount (fsopen(2), since Linux 5.2).
func newMount(m Mount) (fd int, log string, err error) {
	Yield()
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			return -1, "", fmt.Errorf("the kernel has no such file system, a module may be missing: %w", err)
		}
		return -1, "", fmt.Errorf("file system type: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := configure(fs, m); err != nil {
		return -1, kernelLog(fs), err
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, m.Flags.attributes())
	if err != nil {
		return -1, kernelLog(fs), err
	}
	return fd, "", nil
}

func configure(fs int, m Mount) error {
	if err := unix.FsconfigSetString(fs, "source", m.Source); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if m.Flags&ReadOnly != 0 {
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return fmt.Errorf("ro: %w", err)
		}
	}
	for option := range strings.SplitSeq(m.Data, ",") {
		if option == "" {
			continue
		}
		var err error
		if key, value, ok := strings.Cut(option, "="); ok {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", option, err)
		}
	}
	Yield()
	return unix.FsconfigCreate(fs)
}

// kernelLog returns the messages of the file system about a failed configuration: one
// message for each read, until ENODATA.
func kernelLog(fs int) string {
	var lines []string
	buf := make([]byte, 256)
	const most = 8 // The kernel keeps this many (fs/fs_context.c, struct fc_log).
	for range most {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			break
		}
		lines = append(lines, logLine(string(buf[:n])))
	}
	return strings.Join(lines, "; ")
}

// logLine takes the level from a message: e, w or i for error, warning or info,
// as in "e virtiofs: tag <x> not found".
func logLine(message string) string {
	if level, text, ok := strings.Cut(message, " "); ok && len(level) == 1 {
		message = text
	}
	return strings.TrimSpace(message)
}

// Unmount unmounts the file system at the absolute path target. With lazily it is detached
// from the tree now, and ends when nothing uses it any more.
func Unmount(target string, lazily bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazily {
		flags |= unix.MNT_DETACH
	}
	return pathError("unmount", target, unix.Unmount(target, flags))
}

// RemountReadOnly makes the file system that the root is a mount of read-only, for all its
// mounts. All writes are on its disk then, and its journal is empty.
func (r *Root) RemountReadOnly() error {
	fs, err := unix.Fspick(r.fd, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return os.NewSyscallError("fspick", err)
	}
	defer func() { _ = unix.Close(fs) }()
	err = unix.FsconfigSetFlag(fs, "ro")
	if err == nil {
		err = unix.FsconfigReconfigure(fs)
	}
	if err != nil {
		return fmt.Errorf("remount read-only: %w", logged(err, kernelLog(fs)))
	}
	return nil
}

// Freeze syncs the file system that the root is a mount of, and blocks every later write
// for good (ext4 marks its journal as empty then). Files may be open for writing. A file
// system without a disk is EOPNOTSUPP.
func (r *Root) Freeze() error {
	fd, err := retry(func() (int, error) { return unix.Openat(r.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer func() { _ = unix.Close(fd) }()
	const freeze = 0xc0045877 // FIFREEZE, include/uapi/linux/fs.h; the package has no name for it.
	return os.NewSyscallError("FIFREEZE", unix.IoctlSetInt(fd, freeze, 0))
}

// logged adds the file system's own message to an error.
func logged(err error, log string) error {
	if log == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, log)
}

// SwitchRoot makes the mount at dir the root of this process and of its later children.
// No path leads to the old root afterwards. pivot_root(2) refuses the root of an initramfs
// (EINVAL); the new root is moved over that one instead.
func SwitchRoot(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	err := unix.PivotRoot(".", ".")
	if err == nil {
		// The old root now lies over the new one at ".": detach it.
		err = os.NewSyscallError("detach old root", unix.Unmount(".", unix.MNT_DETACH))
	} else if errors.Is(err, unix.EINVAL) {
		if err = unix.Mount(".", "/", "", unix.MS_MOVE, ""); err == nil {
			err = unix.Chroot(".")
		}
	}
	if err != nil {
		return fmt.Errorf("make %s the root: %w", dir, err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}
