package host

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Containerd may run in a chroot whose root is no mount point: the shim's own mounts are
// made, and paths lead to the same files, all the same.
func TestChroot(t *testing.T) {
	if !inMounts(t) {
		return
	}
	root := t.TempDir()
	for _, dir := range []string{"proc", "here"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	proc := filepath.Join(root, "proc")
	if err := unix.Mount("/proc", proc, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // Before its directory is removed with all that is in it.
		if err := Unmount(proc); err != nil {
			t.Fatal(err)
		}
	})
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // It ends in the chroot.
		done <- inChroot(root)
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "here/mount/file")); err == nil {
		t.Error("a mount of the shim's appears on the host")
	}
}

func inChroot(root string) error {
	for _, step := range []func() error{
		func() error { return unix.Unshare(unix.CLONE_FS) },
		func() error { return unix.Chroot(root) },
		func() error { return unix.Chdir("/here") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	origin, err := OpenOrigin()
	if err != nil {
		return err
	}
	defer origin.Close()
	for _, step := range []func() error{
		OwnMounts,
		func() error { return os.Mkdir("mount", 0o755) },
		func() error { return unix.Mount("mount", "mount", "tmpfs", 0, "") },
		func() error { return os.WriteFile("/here/mount/file", nil, 0o600) },
		origin.enter,
		func() error { _, err := os.Stat("/here/mount"); return err },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
