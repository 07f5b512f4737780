package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/plan"
)

// flags are the mount options that are flags of mount(2), and whether they clear it.
var flags = map[string]struct {
	flag  uintptr
	clear bool
}{
	"ro": {flag: unix.MS_RDONLY}, "rw": {unix.MS_RDONLY, true},
	"bind": {flag: unix.MS_BIND}, "rbind": {flag: unix.MS_BIND | unix.MS_REC},
	"nosuid": {flag: unix.MS_NOSUID}, "suid": {unix.MS_NOSUID, true},
	"nodev": {flag: unix.MS_NODEV}, "dev": {unix.MS_NODEV, true},
	"noexec": {flag: unix.MS_NOEXEC}, "exec": {unix.MS_NOEXEC, true},
	"noatime": {flag: unix.MS_NOATIME}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {flag: unix.MS_NODIRATIME}, "relatime": {flag: unix.MS_RELATIME}, "strictatime": {flag: unix.MS_STRICTATIME},
	"sync": {flag: unix.MS_SYNCHRONOUS}, "async": {unix.MS_SYNCHRONOUS, true}, "dirsync": {flag: unix.MS_DIRSYNC},
	"defaults": {},
}

// parseOptions splits options into the flags and the data of mount(2).
func parseOptions(options []string) (set uintptr, data string) {
	var rest []string
	for _, o := range options {
		f, ok := flags[o]
		switch {
		case !ok:
			rest = append(rest, o)
		case f.clear:
			set &^= f.flag
		default:
			set |= f.flag
		}
	}
	return set, strings.Join(rest, ",")
}

// pageSize is the most that mount(2) takes as data.
const pageSize = 4096

// mountOne mounts what a snapshotter describes.
func mountOne(m *types.Mount, target string) error {
	set, data := parseOptions(m.Options)
	if m.Target != "" {
		within, err := openWithin(target, m.Target)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(within) }()
		target = fmt.Sprintf("/proc/self/fd/%d", within)
	}
	var undo func()
	if m.Type == "overlay" && len(data) >= pageSize {
		var err error
		if data, undo, err = shorten(data); err != nil {
			return err
		}
		defer undo()
	}
	if err := unix.Mount(m.Source, target, m.Type, set, data); err != nil {
		return fmt.Errorf("mount %s from %q on %s (%s): %w", m.Type, m.Source, target, data, err)
	}
	const readOnlyBind = unix.MS_BIND | unix.MS_RDONLY
	if set&readOnlyBind != readOnlyBind {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|set, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// openWithin opens a directory below a root whose links an image has made: they lead
// nowhere but below that root.
func openWithin(root, name string) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", root, err)
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("open %s in %s: %w", name, root, err)
	}
	return fd, nil
}

// shorten names the lower directories of many layers by descriptors, so that they
// fit into the page that the kernel takes.
func shorten(data string) (short string, undo func(), err error) {
	var open []*os.File
	undo = func() {
		for _, f := range open {
			_ = f.Close()
		}
	}
	words := strings.Split(data, ",")
	for i, w := range words {
		dirs, ok := strings.CutPrefix(w, "lowerdir=")
		if !ok {
			continue
		}
		var names []string
		for dir := range strings.SplitSeq(dirs, ":") {
			f, err := os.Open(dir)
			if err != nil {
				undo()
				return "", nil, err
			}
			open = append(open, f)
			names = append(names, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}
		words[i] = "lowerdir=" + strings.Join(names, ":")
	}
	return strings.Join(words, ","), undo, nil
}

// MountRoot mounts a container's root file system. Several mounts are those that a
// snapshotter puts one into another, in their order.
func MountRoot(mounts []*types.Mount, target string) error {
	for _, m := range mounts {
		if err := mountOne(m, target); err != nil {
			return errors.Join(err, Unmount(target))
		}
	}
	return nil
}

// bindReadOnly shows a directory of this host at target, which is there.
func bindReadOnly(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	return remountReadOnly(target)
}

// bindFrom shows a file or a directory of another mount namespace at target, whose
// mount point is made under the name point. What is mounted below it there later is
// seen too, if that mount is shared: a copy of a mount stays in the group of its
// original.
func bindFrom(origin Origin, b plan.Bind, point, target string) error {
	mount, isDir, err := copyMount(origin, b)
	if refused, ok := errors.AsType[*plan.RefusedError](err); ok {
		return refused
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", b.Source, err)
	}
	defer func() { _ = unix.Close(mount) }()
	if err := makePoint(point, isDir); err != nil {
		return err
	}
	if err := prepareBind(b, mount); err != nil {
		return fmt.Errorf("volume %s: %w", b.Source, err)
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("volume %s: mount it: %w", b.Source, err)
	}
	return nil
}

// prepareBind lets nothing that is mounted here go back to the host, and makes the
// mount read-only before it is attached: the file server gets a copy of the mount at
// that moment, and hears of no change after it.
func prepareBind(b plan.Bind, mount int) error {
	err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return fmt.Errorf("set its propagation: %w", err)
	}
	if !b.ReadOnly {
		return nil
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if b.AllReadOnly {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(mount, "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make it read-only: %w", err)
	}
	return nil
}

// copyMount makes a mount that is attached nowhere yet. It enters the namespace on a
// thread that ends with it.
func copyMount(origin Origin, b plan.Bind) (mount int, isDir bool, err error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if b.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	err = OnThread(func() (err error) {
		if err = origin.enter(); err != nil {
			return err
		}
		if mount, err = unix.OpenTree(unix.AT_FDCWD, b.Source, flags); err != nil {
			return err
		}
		// Of what was opened: a guest may change what the name leads to meanwhile.
		var info unix.Stat_t
		if err = unix.Fstat(mount, &info); err == nil {
			err = checkSource(b.Source, info.Mode, unix.Major(info.Rdev))
		}
		if err != nil {
			_ = unix.Close(mount)
		}
		isDir = info.Mode&unix.S_IFMT == unix.S_IFDIR
		return err
	})
	return mount, isDir, err
}

// equalDevices are the character devices whose numbers mean the same in every kernel, such
// as /dev/null, /dev/tty and /dev/fuse (devices.txt of the kernel's documentation).
var equalDevices = []uint32{1, 5, 10}

// checkSource refuses what the guest's kernel would take for something of its own: it knows
// a device by its number alone, and has other devices; and nobody in the guest listens
// at a socket of the host.
func checkSource(source string, mode, major uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return &plan.RefusedError{Field: "mounts.source", Value: source, Reason: "it is a block device of the host, which the machine does not have"}
	case unix.S_IFSOCK:
		return &plan.RefusedError{Field: "mounts.source", Value: source, Reason: "it is a socket of the host, which no program in the machine can reach; share a directory, or use the network"}
	case unix.S_IFCHR:
		if !slices.Contains(equalDevices, major) {
			return &plan.RefusedError{Field: "mounts.source", Value: source, Reason: "it is a character device of the host, which the machine does not have"}
		}
	}
	return nil
}

// remountReadOnly keeps what else holds of the mount.
func remountReadOnly(target string) error {
	return unix.MountSetattr(unix.AT_FDCWD, target, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

func makePoint(target string, dir bool) error {
	const forAll = 0o755
	if dir {
		return os.MkdirAll(target, forAll)
	}
	if err := os.MkdirAll(filepath.Dir(target), forAll); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // The bind hides it.
	if err != nil {
		return err
	}
	return f.Close()
}

// Unmount takes a mount, and what stands on it, away: at once for new users, and for
// old ones when they are done.
func Unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // Nothing is mounted there.
		case err != nil:
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
}
