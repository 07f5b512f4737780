package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"
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
		target = filepath.Join(target, filepath.Join("/", m.Target))
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

// Bind shows a file or a directory of this host at target, which is made. A
// directory that is missing is made, as runtimes do.
func Bind(source, target string, readOnly, recursive bool) error {
	info, err := os.Stat(source)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("volume %s: %w", source, err)
	}
	if err != nil {
		return err
	}
	if err := makePoint(target, info.IsDir()); err != nil {
		return err
	}
	set := uintptr(unix.MS_BIND)
	if recursive {
		set |= unix.MS_REC
	}
	if err := unix.Mount(source, target, "", set, ""); err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	if !readOnly {
		return nil
	}
	if err := remountReadOnly(target); err != nil {
		return errors.Join(fmt.Errorf("bind %s read-only: %w", source, err), Unmount(target))
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
