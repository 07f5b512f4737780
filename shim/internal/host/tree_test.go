package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/plan"
)

// inMounts reports whether this process has a mount namespace of its own. If not it runs
// the test again in one that has.
func inMounts(t *testing.T) bool {
	t.Helper()
	const inside = "AGENTD_TEST_MOUNTS"
	if os.Getenv(inside) == "1" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // Private to it, as Go has it.
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("no mounts without root")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// tree is a pod's, with a container that has one volume, and what a guest could do to
// lead the host elsewhere: the place outside must stay as it is.
func newTree(t *testing.T) (tree Tree, outside string) {
	t.Helper()
	base := t.TempDir()
	for _, d := range []string{"master/bin", "master/sbin", "outside", "volume", "rootfs"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	outside = filepath.Join(base, "outside")
	if err := os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	origin, err := OpenOrigin()
	if err != nil {
		t.Fatal(err)
	}
	tree, err = MakeTree(filepath.Join(base, "pod"), filepath.Join(base, "master"), origin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		origin.Close()
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree, outside
}

// What the machine can write are the container's root and its volumes, and nothing
// beside them: no link of a guest leads the shim to another place of the host.
func TestGuestWritesNothingBesideTheMounts(t *testing.T) {
	if !inMounts(t) {
		return
	}
	tree, outside := newTree(t)
	base := filepath.Dir(outside)
	binds := []plan.Bind{{Source: filepath.Join(base, "volume"), Name: "0"}}
	if err := tree.Add(1, nil, filepath.Join(base, "rootfs"), binds, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"volumes/2", "volumes/1/1", "volumes/x", "root/containers/2", "root/containers/1/x", "root/x", "root/.volumes/2"} {
		if err := os.Symlink(outside, filepath.Join(tree.dir, place)); !errors.Is(err, unix.EROFS) {
			t.Errorf("a link at %s: %v", place, err)
		}
	}
	for _, place := range []string{"volumes/1/0/link", "root/containers/1/rootfs/link"} {
		if err := os.Symlink(outside, filepath.Join(tree.dir, place)); err != nil {
			t.Error(err)
		}
	}
	if err := tree.Remove(1); err != nil {
		t.Error(err)
	}
	for _, kept := range []string{"outside/kept", "volume/link", "rootfs/link"} {
		if _, err := os.Lstat(filepath.Join(base, kept)); err != nil {
			t.Error(err)
		}
	}
	for _, gone := range []string{tree.volumePoints(1), filepath.Join(tree.tree(), plan.Dir(1))} {
		if _, err := os.Lstat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", gone, err)
		}
	}
}

// A read-only volume holds for what is mounted below it if that was asked for.
func TestReadOnlyVolumes(t *testing.T) {
	if !inMounts(t) {
		return
	}
	tree, outside := newTree(t)
	below := filepath.Join(outside, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Unmount(below) })
	binds := []plan.Bind{
		{Source: outside, Name: "0", Recursive: true, ReadOnly: true},
		{Source: outside, Name: "1", Recursive: true, ReadOnly: true, AllReadOnly: true},
	}
	if err := tree.Add(1, nil, outside, binds, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]error{"0/x": unix.EROFS, "0/below/x": nil, "1/y": unix.EROFS, "1/below/y": unix.EROFS} {
		if err := os.Mkdir(filepath.Join(tree.volumes(1), place), 0o700); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", place, err, want)
		}
	}
}

// A mount into a root file system stays in it, whatever links the image has.
func TestMountsStayInTheirRoot(t *testing.T) {
	if !inMounts(t) {
		return
	}
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, d := range []string{"root/inside", "outside", "source"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"absolute": outside, "relative": "../outside", "magic": "/proc/self/root", "good": "/inside"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, ok := range map[string]bool{"absolute": false, "relative": false, "../../outside": false, "magic": false, "good": true, "inside": true} {
		m := &types.Mount{Type: "bind", Source: filepath.Join(base, "source"), Target: name, Options: []string{"rbind"}}
		err := mountOne(m, root)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		var at, source unix.Stat_t
		if err := errors.Join(unix.Stat(outside, &at), unix.Stat(m.Source, &source)); err != nil || at.Ino == source.Ino {
			t.Errorf("%s: mounted outside, %v", name, err)
		}
	}
	if err := Unmount(filepath.Join(root, "inside")); err != nil {
		t.Error(err)
	}
}

// A hook runs where containerd does, not where the caller is.
func TestHooksRunInTheRuntimesNamespaces(t *testing.T) {
	if !inMounts(t) {
		return
	}
	origin, err := OpenOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	file := filepath.Join(t.TempDir(), "net")
	go func() {
		runtime.LockOSThread() // It ends in the namespace.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		hook := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "readlink /proc/self/ns/net >" + file}}
		done <- RunHooks(t.Context(), origin, network, "createRuntime", []specs.Hook{hook}, specs.State{})
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); string(got) != want+"\n" {
		t.Errorf("%q, %v; want %s", got, err, want)
	}
}
