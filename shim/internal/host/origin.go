package host

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// An Origin is where the paths of a specification lead: containerd's mount namespace, and
// its root directory there. That is no mount point if containerd runs in a chroot.
type Origin struct{ Mounts, Root *os.File }

// OpenOrigin is where this process is. The caller closes it.
func OpenOrigin() (o Origin, err error) {
	if o.Mounts, err = os.Open("/proc/self/ns/mnt"); err != nil {
		return Origin{}, err
	}
	if o.Root, err = openDir("/"); err != nil {
		o.Close()
		return Origin{}, err
	}
	return o, nil
}

// Close closes what OpenOrigin has opened.
func (o Origin) Close() {
	for _, f := range []*os.File{o.Mounts, o.Root} {
		if f != nil {
			_ = f.Close() // Nothing was written.
		}
	}
}

// enter moves this thread there. It must end there: see [runtime.LockOSThread].
func (o Origin) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the other threads' directory: %w", err)
	}
	if err := unix.Setns(int(o.Mounts.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the mount namespace of the host: %w", err)
	}
	return changeRoot(o.Root)
}

// OwnMounts gives this thread, which must not go back, a mount namespace of its own: the
// host's mounts go on to appear there, and its own stay there.
func OwnMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	root, err := openDir("/")
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	here, err := openDir(".")
	if err != nil {
		return err
	}
	defer func() { _ = here.Close() }()
	if err := slaves(); err != nil {
		return err
	}
	if err := changeRoot(root); err != nil {
		return err
	}
	return os.NewSyscallError("fchdir", unix.Fchdir(int(here.Fd())))
}

// slaves takes this thread to the root of its mount namespace, outside of any chroot:
// only a mount point has a propagation.
func slaves() error {
	self, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	defer func() { _ = self.Close() }()
	if err := unix.Setns(int(self.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("find the root of the mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("set the propagation of mounts: %w", err)
	}
	return nil
}

func changeRoot(root *os.File) error {
	if err := errors.Join(unix.Fchdir(int(root.Fd())), unix.Chroot(".")); err != nil {
		return fmt.Errorf("change to the root directory: %w", err)
	}
	return nil
}

// openDir opens a directory as a place alone: nothing is read from it.
func openDir(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
