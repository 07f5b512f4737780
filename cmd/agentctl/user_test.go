package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// nobody is a user without a home, a name's rights or a range of subordinate ids:
// what it can do, any user can.
const nobody = 65534

// TestOrdinaryUser is a machine that stays, from create to rm, of a user who is not
// root. Where the tests run as one, all of them show that.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run as an ordinary user already")
	}
	vmtest.Require(t)
	dir := homeOf(t, nobody)
	run := func(want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "agentctl"), args...)
		cmd.Dir = dir
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, sandbox.AgentVariable + "=" + filepath.Join(dir, "agentd"),
			image.CacheVariable + "=" + filepath.Join(dir, "cache"), machines.StateVariable + "=" + filepath.Join(dir, "state"),
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("agentctl %s: %v, want %q in\n%s", strings.Join(args, " "), err, want, out)
		}
	}
	run("dev", "run", "-d", "--name", "dev")
	run("0", "exec", "dev", "--", "sh", "-c", "id -u; echo kept >/root/file")
	run("dev", "stop", "dev")
	run("dev", "start", "dev")
	run("kept", "exec", "dev", "--", "cat", "/root/file")
	run("dev", "rm", "-f", "dev")
	left, err := filepath.Glob(filepath.Join(dir, "state", "machines", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// homeOf is a directory with all that agentctl needs, of a user who can look into
// nothing of ours.
func homeOf(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "user-") //nolint:usetesting // Another user cannot get to t.TempDir's.
	// Nor into the directory around it, which is the tests' own (vmtest.Main).
	if err = errors.Join(err, os.Chmod(os.TempDir(), 0o711)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := image.Open("")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := cache.Kernel("")
	if err != nil {
		t.Fatal(err)
	}
	kernels := filepath.Join(dir, "cache", "kernels")
	err = errors.Join(
		os.MkdirAll(kernels, 0o700),
		image.CopyTree(filepath.Join(kernels, filepath.Base(filepath.Dir(kernel.Path))), filepath.Dir(kernel.Path)),
	)
	for name, from := range map[string]string{"agentctl": self, "agentd": vmtest.Agent(t)} {
		b, failed := os.ReadFile(from)
		err = errors.Join(err, failed, os.WriteFile(filepath.Join(dir, name), b, 0o700))
	}
	err = errors.Join(err, filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	}))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
