package vmtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agentd-go/agentd/internal/image"
)

// debianVariable names a Debian root in place of the one that scripts/setup makes,
// for tests that are meant for a larger one.
const debianVariable = "AGENTD_DEBIAN"

// Debian returns the directory of the Debian root with systemd that scripts/setup
// has made, or of the one that the environment names. It is all tests': none may write to it or boot from it; they take a
// [DebianRoot], or a [Disk] with it. Only root can make and read one, so an
// ordinary user's test is skipped.
func Debian(t *testing.T) string {
	t.Helper()
	return madeRoot(t, "debian", os.Getenv(debianVariable), "test")
}

// InitRoot returns the directory of a root that "scripts/setup inits" has made: sysv,
// whose init is that of System V with its scripts, or openrc, which has both OpenRC's
// own and that of System V. A file /up there says that its boot is over. It is
// shared as [Debian]'s is.
func InitRoot(t *testing.T, name string) string {
	t.Helper()
	return madeRoot(t, name, "", "inits")
}

// madeRoot returns a root of the cache, or the other that is given.
func madeRoot(t *testing.T, name, other, setup string) string {
	t.Helper()
	Require(t)
	if os.Getuid() != 0 {
		t.Skipf("no root %s: only root can make and read one", name)
	}
	cache, err := image.Open("")
	if err != nil {
		t.Fatal(err)
	}
	dir := cmp.Or(other, filepath.Join(cache.Path(), name+suffix()))
	if _, err := os.Stat(dir); err != nil && suffix() != "" { //nolint:gosec // G703: the tester names it.
		t.Skipf("no root %s for %s", name, Platform())
	}
	if _, err := os.Stat(dir); err != nil { //nolint:gosec // G703: the tester names it.
		unavailable(t, fmt.Errorf("no root %s (run scripts/setup %s): %w", name, setup, err))
	}
	return dir
}

// DebianRoot returns a private copy of the Debian root, some 100 MiB.
func DebianRoot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "debian")
	if err := image.CopyTree(dir, Debian(t)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// diskSize leaves a Debian root room to write; the file is sparse.
const diskSize = 1 << 30

// Disk returns a new disk of type ext4 or erofs that holds what is in dir, or an
// empty one if dir is "". With a Debian root it takes a quarter of a second.
func Disk(t *testing.T, fstype, dir string) string {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	path := filepath.Join(t.TempDir(), "disk."+fstype)
	var cmd *exec.Cmd
	switch fstype {
	case "erofs":
		cmd = exec.CommandContext(t.Context(), "mkfs.erofs", "--quiet", path, dir)
	case "ext4":
		if err := sparse(path); err != nil {
			t.Fatal(err)
		}
		cmd = exec.CommandContext(t.Context(), "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, path)
	default:
		t.Fatalf("disk of type %q: want ext4 or erofs", fstype)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a disk of type %s: %v\n%s", fstype, err, out)
	}
	return path
}

func sparse(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(diskSize), f.Close())
}
