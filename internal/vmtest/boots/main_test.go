package boots

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

func TestMain(m *testing.M) { os.Exit(vmtest.Main(m)) }

// patience bounds one command: emulated, on a host with other work.
const patience = 60 * time.Second

// say runs a script as root in the machine and returns what it prints.
func say(t *testing.T, m *vmtest.Machine, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := m.Client().CommandContext(ctx, "sh", "-c", script)
	c.User = "0" // The image may have no accounts.
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// expect runs scripts and compares what they print.
func expect(t *testing.T, m *vmtest.Machine, scripts ...string) {
	t.Helper()
	for i := 0; i+1 < len(scripts); i += 2 {
		if got := say(t, m, scripts[i]); got != scripts[i+1] {
			t.Errorf("%s: %q, want %q", scripts[i], got, scripts[i+1])
		}
	}
}

// eachKernel runs a test on each kernel.
func eachKernel(t *testing.T, f func(t *testing.T, kernel string)) {
	t.Helper()
	for _, kernel := range vmtest.Kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			f(t, kernel)
		})
	}
}

// roomy reports whether a machine with the kernel has room for more than six
// shares and disks.
func roomy(kernel string) bool { return !strings.HasPrefix(kernel, "krunfw-") }

// refused starts a machine that must not become ready, and returns why it did not.
func refused(t *testing.T, cfg sandbox.Config) *sandbox.BootError {
	t.Helper()
	vmtest.Require(t)
	m, err := sandbox.Start(t.Context(), vmtest.Config(t, cfg))
	if err == nil {
		t.Fatal(errors.Join(errors.New("the machine boots"), m.Kill()))
	}
	failed, ok := errors.AsType[*sandbox.BootError](err)
	if !ok {
		t.Fatal(err)
	}
	return failed
}

// clean says that an ext4 disk was left without anything to recover.
//
//holds:boot 26: the ext4 of an upper needs no recovery
func clean(t *testing.T, path string) {
	t.Helper()
	head := tool(t, "dumpe2fs", "-h", path)
	if strings.Contains(head, "needs_recovery") || !strings.Contains(head, "has_journal") {
		t.Errorf("the disk was not left clean:\n%s", head)
	}
	tool(t, "e2fsck", "-f", "-n", path)
}

// tool runs a program of the host's.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
