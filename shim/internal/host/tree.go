package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
	"github.com/agentd-go/agentd/shim/internal/plan"
)

// rootBytes is for the machine's root: directories and configurations, of 64 KiB
// each and 1 MiB at most, for some hundred containers.
const rootBytes = 64 << 20

// A Tree is what a pod's machine sees of this host: its root, with the root file
// systems of its containers in it, and their volumes.
//
//	DIR/tree     a file system in memory that the shim writes
//	DIR/root     the same, read-only; the machine's root
//	DIR/volumes  its directory volumesDir, read-only: a directory for each container
//
// The machine can write to what is mounted there alone. A link that a guest made
// beside the mounts would lead the shim itself, which makes and removes directories
// there, to another place of the host.
type Tree struct {
	dir    string
	origin Origin // Where the paths of volumes lead.
}

// Root is the machine's root directory.
func (t Tree) Root() string { return filepath.Join(t.dir, "root") }

// Volumes is the directory of the share of volumes.
func (t Tree) Volumes() string { return filepath.Join(t.dir, "volumes") }

func (t Tree) tree() string { return filepath.Join(t.dir, "tree") }

// rootDirs are the mount points and places that a boot expects in a root.
var rootDirs = []string{"bin", "sbin", "proc", "sys", "dev", "run", "tmp", "etc", "root", "mnt", "var", ".msb", pact.Containers, volumesDir}

// volumesDir is in the tree, and so in the machine's root too, where it is empty.
const volumesDir = ".volumes"

// MakeTree makes the tree in dir: the programs come from the directory master. What
// is mounted later on it reaches the file servers that run by then, because the
// mounts are shared with their namespaces.
func MakeTree(dir, master string, origin Origin) (Tree, error) {
	t := Tree{dir, origin}
	for _, d := range []string{t.tree(), t.Root(), t.Volumes()} {
		if err := os.MkdirAll(d, 0o755); err != nil { //nolint:gosec // The guest's users pass it.
			return t, err
		}
	}
	data := fmt.Sprintf("mode=0755,size=%d", rootBytes)
	const secure = unix.MS_NODEV | unix.MS_NOSUID
	if err := unix.Mount("agentd-pod", t.tree(), "tmpfs", secure, data); err != nil {
		return t, fmt.Errorf("mount %s: %w", t.tree(), err)
	}
	if err := t.fill(master); err != nil {
		return t, err
	}
	return t, errors.Join(show(t.tree(), t.Root()), show(filepath.Join(t.tree(), volumesDir), t.Volumes()))
}

// show binds what the shim writes to where a file server serves it, read-only.
func show(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", target, err)
	}
	if err := remountReadOnly(target); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	if err := unix.Mount("", target, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share %s: %w", target, err)
	}
	return nil
}

// Close takes the tree's mounts away.
func (t Tree) Close() error {
	return errors.Join(Unmount(t.Volumes()), Unmount(t.Root()), Unmount(t.tree()))
}

func (t Tree) fill(master string) error {
	for _, d := range rootDirs {
		if err := os.MkdirAll(filepath.Join(t.tree(), d), 0o755); err != nil { //nolint:gosec // As in any root.
			return err
		}
	}
	for _, d := range []string{"bin", "sbin"} {
		if err := bindReadOnly(filepath.Join(master, d), filepath.Join(t.tree(), d)); err != nil {
			return err
		}
	}
	return nil
}

// Add shows a container's root file system, its volumes and its configuration. A root
// file system without mounts is the directory that was given.
func (t Tree) Add(number int, mounts []*types.Mount, given string, binds []plan.Bind, config []byte) (err error) {
	dir := plan.Dir(number)
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Remove(number))
		}
	}()
	rootfs := path.Join(dir, "rootfs")
	if err := os.MkdirAll(filepath.Join(t.tree(), rootfs), 0o755); err != nil { //nolint:gosec // As in any root.
		return err
	}
	if err := os.WriteFile(filepath.Join(t.tree(), dir, "config.json"), config, 0o600); err != nil {
		return err
	}
	if len(mounts) == 0 {
		mounts = []*types.Mount{{Type: "bind", Source: given, Options: []string{"rbind", "rw"}}}
	}
	if err := MountRoot(mounts, filepath.Join(t.Root(), rootfs)); err != nil {
		return err
	}
	for _, b := range binds {
		if err := bindFrom(t.origin, b, filepath.Join(t.volumePoints(number), b.Name), filepath.Join(t.volumes(number), b.Name)); err != nil {
			return err
		}
	}
	return nil
}

// volumes is where a container's volumes are mounted, and volumePoints where the
// mount points are made.
func (t Tree) volumes(number int) string { return filepath.Join(t.Volumes(), strconv.Itoa(number)) }

func (t Tree) volumePoints(number int) string {
	return filepath.Join(t.tree(), volumesDir, strconv.Itoa(number))
}

// Remove takes a container out. What it has mounted goes first: nothing is removed
// through a mount.
func (t Tree) Remove(number int) error {
	err := Unmount(filepath.Join(t.Root(), plan.Dir(number), "rootfs"))
	entries, _ := os.ReadDir(t.volumes(number))
	for _, e := range entries {
		err = errors.Join(err, Unmount(filepath.Join(t.volumes(number), e.Name())))
	}
	if err != nil {
		return err
	}
	return errors.Join(removeEmpty(t.volumePoints(number)), removeEmpty(filepath.Join(t.tree(), plan.Dir(number))))
}

// removeEmpty removes a directory of empty directories and of our own files, and
// fails at anything else: what it does not know it does not delete.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(err, os.Remove(dir))
}
