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

func (f MountFlags) attributes() (attr int) {
	for flag, a := range map[MountFlags]int{
		ReadOnly: unix.MOUNT_ATTR_RDONLY, NoExec: unix.MOUNT_ATTR_NOEXEC,
		NoSUID: unix.MOUNT_ATTR_NOSUID, NoDev: unix.MOUNT_ATTR_NODEV,
	} {
		if f&flag != 0 {
			attr |= a
		}
	}
	return attr
}

// A MountError says which mount the kernel refused and in which words.
type MountError struct {
	Source, Type, Target string
	Log                  string // What the file system itself said, may be empty.
	Err                  error
}

func (e *MountError) Error() string {
	s := fmt.Sprintf("mount %s (type %s) on %s: %v", e.Source, e.Type, e.Target, e.Err)
	if e.Log != "" {
		s += ": " + e.Log
	}
	return s
}

func (e *MountError) Unwrap() error { return e.Err }

// magic are the file systems that a root may bring along already mounted, as
// statfs(2) names them.
var magic = map[string]int64{
	"devtmpfs": unix.TMPFS_MAGIC,
	"proc":     unix.PROC_SUPER_MAGIC,
	"sysfs":    unix.SYSFS_MAGIC,
	"cgroup2":  unix.CGROUP2_SUPER_MAGIC,
	"devpts":   unix.DEVPTS_SUPER_MAGIC,
	"tmpfs":    unix.TMPFS_MAGIC,
	"virtiofs": 0x65735546, // FUSE_SUPER_MAGIC, include/uapi/linux/magic.h.
}

// Mount mounts a file system on the directory target beneath the root, which
// it makes if it is missing (one level, mode 0755). data is the file system's
// options, comma separated. mounted is false if the same type stands there
// already.
func (r *Root) Mount(source, target, fstype string, flags MountFlags, data string) (mounted bool, err error) {
	fail := func(log string, err error) (bool, error) {
		return false, &MountError{Source: source, Type: fstype, Target: target, Log: log, Err: err}
	}
	at, err := r.mkdirAll(target, 0o755)
	if err != nil {
		return fail("", err)
	}
	defer func() { _ = unix.Close(at) }()
	if already(at, fstype) {
		return false, nil
	}
	fs, log, err := newMount(source, fstype, flags, data)
	if err != nil {
		return fail(log, err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.MoveMount(fs, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fail("", err)
	}
	return true, nil
}

// already reports whether at is the root of a mount of the type.
func already(at int, fstype string) bool {
	var stx unix.Statx_t
	if unix.Statx(at, "", unix.AT_EMPTY_PATH, 0, &stx) != nil || stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false
	}
	var st unix.Statfs_t
	return unix.Fstatfs(at, &st) == nil && st.Type == magic[fstype]
}

// newMount makes a mount that stands nowhere yet (fsopen(2), since Linux 5.2).
func newMount(source, fstype string, flags MountFlags, data string) (fd int, log string, err error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.ENODEV) {
			return -1, "", fmt.Errorf("the kernel has no such file system, a module may be missing: %w", err)
		}
		return -1, "", fmt.Errorf("file system type: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := configure(fs, source, flags, data); err != nil {
		return -1, kernelLog(fs), err
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, flags.attributes())
	if err != nil {
		return -1, kernelLog(fs), err
	}
	return fd, "", nil
}

func configure(fs int, source string, flags MountFlags, data string) error {
	if err := unix.FsconfigSetString(fs, "source", source); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if flags&ReadOnly != 0 {
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return fmt.Errorf("ro: %w", err)
		}
	}
	for option := range strings.SplitSeq(data, ",") {
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
	return unix.FsconfigCreate(fs)
}

// kernelLog returns what the file system said about a failed configuration:
// one message a read, until ENODATA.
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

// Unmount detaches what is mounted at the absolute path target. lazily means
// now from the tree and for good when nobody uses it any more.
func Unmount(target string, lazily bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazily {
		flags |= unix.MNT_DETACH
	}
	if err := unix.Unmount(target, flags); err != nil {
		return &os.PathError{Op: "unmount", Path: target, Err: err}
	}
	return nil
}

// RemountReadOnly makes the file system at target read-only, for all its mounts.
func RemountReadOnly(target string) error {
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return &os.PathError{Op: "remount read-only", Path: target, Err: err}
	}
	return nil
}

// SwitchRoot makes the mount at dir the root of this process and of all
// threads' children to come, and leaves nothing of the old root reachable by
// path. The early root of an initramfs cannot be pivoted away from
// (pivot_root(2): EINVAL); the new root is moved over it then.
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
