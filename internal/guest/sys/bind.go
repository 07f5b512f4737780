package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// BindFile bind-mounts the regular file source at target with flags; both are beneath the
// root. A missing target is made, empty, with its parents. A target that is a directory or
// a link is an error; any other file is covered without being opened.
func (r *Root) BindFile(source, target string, flags MountFlags) error {
	fail := func(err error) error {
		return &MountError{Mount: Mount{Source: source, Type: "bind", Target: target, Flags: flags}, Err: err}
	}
	file, err := r.openFile(source)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(file) }()
	tree, err := clone(file, 0, flags)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(tree) }()
	if err := r.placeOnFile(tree, target); err != nil {
		return fail(err)
	}
	return nil
}

// BindDir bind-mounts the directory source at target with flags, without the mounts below
// it. target is made if it is missing.
func (r *Root) BindDir(source, target string, flags MountFlags) error {
	return r.bindDir(source, target, 0, flags)
}

// BindTree is BindDir with all mounts below source, which keep their flags.
func (r *Root) BindTree(source, target string, flags MountFlags) error {
	return r.bindDir(source, target, unix.AT_RECURSIVE, flags)
}

func (r *Root) bindDir(source, target string, depth uint, flags MountFlags) error {
	fail := func(err error) error {
		return &MountError{Mount: Mount{Source: source, Type: "bind", Target: target, Flags: flags}, Err: err}
	}
	dir, err := r.open(source, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(dir) }()
	at, err := r.mkdirAll(target, 0o755, true)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(at) }()
	tree, err := clone(dir, depth, flags)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(tree) }()
	if err := place(tree, at); err != nil {
		return fail(err)
	}
	return nil
}

// clone returns a detached copy of the mount that fd is open on. With depth AT_RECURSIVE it
// has the mounts below too (open_tree(2), since Linux 5.2; mount_setattr(2), since 5.12).
func clone(fd int, depth uint, flags MountFlags) (tree int, err error) {
	tree, err = unix.OpenTree(fd, "", depth|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil || flags == 0 {
		return tree, err
	}
	attr := unix.MountAttr{Attr_set: uint64(flags.attributes())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// openFile returns an O_PATH descriptor of a regular file.
func (r *Root) openFile(name string) (int, error) {
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, &fs.PathError{Op: "open", Path: name, Err: errors.Join(err, errNotRegular)}
	}
	return fd, nil
}

// placeOnFile puts a mount on the file name. It makes a missing file, and removes it again
// if the mount fails.
func (r *Root) placeOnFile(mount int, name string) error {
	dir, base, err := r.parentOf(name, 0o755)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	at, made, err := fileAt(dir, base)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	if err := place(mount, at); err != nil {
		if made {
			_ = unix.Unlinkat(dir, base, 0) // Report the mount's error.
		}
		return err
	}
	return nil
}

// fileAt returns an O_PATH descriptor of the file name of dir.
func fileAt(dir int, name string) (fd int, made bool, err error) {
	fd, err = openAt(dir, name, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		made = true
		fd, err = openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		// Mounting takes either kind of descriptor.
	}
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = notFile(name, st.Mode)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	return fd, made, nil
}

func openAt(dir int, name string, flags int) (int, error) {
	const everybodyReads = 0o644
	return retry(func() (int, error) {
		return unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, everybodyReads)
	})
}

// notFile says why a file cannot be mounted on a file of this mode.
func notFile(name string, mode uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return fmt.Errorf("%s: %w", name, ErrLink)
	case unix.S_IFDIR:
		return fmt.Errorf("%s: %w", name, unix.EISDIR)
	}
	return nil
}

// Uncover unmounts the topmost mount on a path; there may be none. Processes that have
// files of it open keep them.
func Uncover(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL says that it is no mount point.
		return &fs.PathError{Op: "umount", Path: path, Err: err}
	}
	return nil
}

// RemoveDir removes the empty directory name.
func (r *Root) RemoveDir(name string) error { return r.remove(name, "rmdir", unix.AT_REMOVEDIR) }

// RemoveFile removes the file name.
func (r *Root) RemoveFile(name string) error { return r.remove(name, "unlink", 0) }

func (r *Root) remove(name, op string, flags int) error {
	name = path.Clean("/" + name)
	dir, err := r.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	return pathError(op, name, unix.Unlinkat(dir, path.Base(name), flags))
}

// Poke writes data to the file name in one write. The file must be there.
func (r *Root) Poke(name, data string) error {
	fd, err := r.open(name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte(data)) })
	return pathError("write", name, err)
}
