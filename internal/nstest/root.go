package nstest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Root makes a small root file system in memory the root of the machine: the
// commands of busybox in /bin, a few accounts, the usual directories, proc, a
// few devices and terminals. What the test binary itself is linked with is there
// too, because agentd starts itself again. It must run inside [Run].
func Root(t *testing.T) {
	t.Helper()
	root := os.Getenv(rootVariable)
	must(t, syscall.Mount("tmpfs", root, "tmpfs", 0, "mode=755"), "mount tmpfs")
	for _, dir := range []string{"bin", "etc", "proc", "dev/pts", "dev/shm", "sys", "run", "tmp", "var/tmp", "root", "home/alice", "mnt"} {
		makeDir(t, filepath.Join(root, dir))
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		must(t, os.Chmod(filepath.Join(root, dir), 0o777|fs.ModeSticky), "chmod") //nolint:gosec // G703: the test's own directory.
	}
	for name, content := range accounts {
		makeFile(t, filepath.Join(root, name), []byte(content), 0o644)
	}
	busybox(t, root)
	devices(t, root)
	for _, dir := range []string{"lib", "lib64", "usr/lib", "usr/lib64"} {
		share(t, root, dir)
	}
	must(t, syscall.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""), "mount proc")
	enter(t, root)
	syscall.Umask(0o022) // As the kernel starts PID 1.
}

// accounts has the users of the table in protocol section 8.3.
var accounts = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" +
		"alice:x:1000:1000:Alice:/home/alice:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/:/bin/false\n",
	"etc/group": "root:x:0:\ntty:x:5:\nalice:x:1000:\ndevs:x:2000:alice\nnogroup:x:65534:\n",
}

// busybox puts the host's busybox into the root, with all its links.
func busybox(t *testing.T, root string) {
	t.Helper()
	found, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("the commands of the test root: %v (install a static busybox)", err)
	}
	b, err := os.ReadFile(found)
	must(t, err, "read busybox")
	makeFile(t, filepath.Join(root, "bin/busybox"), b, 0o755)
	list, err := exec.CommandContext(t.Context(), found, "--list").Output()
	must(t, err, "list busybox")
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)), "link")
		}
	}
}

// devices shows the host's harmless devices: a user namespace cannot make any.
func devices(t *testing.T, root string) {
	t.Helper()
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		at := filepath.Join(root, "dev", name)
		makeFile(t, at, nil, 0o666)
		must(t, syscall.Mount("/dev/"+name, at, "", syscall.MS_BIND, ""), "bind "+name)
	}
	must(t, syscall.Mount("devpts", filepath.Join(root, "dev/pts"), "devpts", 0, "ptmxmode=666"), "mount devpts")
	must(t, os.Symlink("pts/ptmx", filepath.Join(root, "dev/ptmx")), "link")
}

// share shows a directory of the host, or what it links to by a relative name.
func share(t *testing.T, root, dir string) {
	t.Helper()
	at := filepath.Join(root, dir)
	if target, err := os.Readlink("/" + dir); err == nil {
		must(t, os.Symlink(target, at), "link")
		return
	}
	if _, err := os.Stat("/" + dir); err != nil {
		return
	}
	makeDir(t, at)
	must(t, syscall.Mount("/"+dir, at, "", syscall.MS_BIND|syscall.MS_REC, ""), "bind "+dir)
	if !inUserNamespace() {
		must(t, syscall.Mount("", at, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""), "remount "+dir)
	}
}

// enter makes root the root and leaves nothing of the old one in reach.
func enter(t *testing.T, root string) {
	t.Helper()
	// Not t.Chdir: there is no way back.
	must(t, syscall.Chdir(root), "chdir")
	must(t, syscall.PivotRoot(".", "."), "pivot")
	must(t, syscall.Unmount(".", syscall.MNT_DETACH), "detach old root")
	must(t, syscall.Chdir("/"), "chdir")
	t.Setenv("PATH", "/bin")
}

// makeDir makes a directory that everybody may enter, as in any root.
func makeDir(t *testing.T, name string) {
	t.Helper()
	const everybody = fs.FileMode(0o755)
	must(t, os.MkdirAll(name, everybody), "mkdir") //nolint:gosec // G703: as above.
}

func makeFile(t *testing.T, name string, data []byte, mode fs.FileMode) {
	t.Helper()
	must(t, os.WriteFile(name, data, mode), "write") //nolint:gosec // G703: the test's own directory.
}
