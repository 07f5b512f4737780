package sandbox_test

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/sandbox"
)

// A host that cannot serve directories boots the small root from a disk.
func TestWithoutSharedDirectories(t *testing.T) {
	kernels(t)
	t.Setenv(vmm.EnvVirtiofsd, "/nowhere/virtiofsd")
	m := start(t, sandbox.Config{})
	if err := m.Unshared(); err == nil || !strings.Contains(err.Error(), "/nowhere/virtiofsd") {
		t.Errorf("the reason: %v", err)
	}
	out, err := m.Client().Command("sh", "-c", "id -u; stat -c %u /bin; stat -f -c %T /.msb; echo kept >/root/x && cat /root/x").Output()
	if want := "0\n0\ntmpfs\nkept\n"; string(out) != want || err != nil {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	_, err = tryStart(t, sandbox.Config{Root: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/virtiofsd") {
		t.Errorf("a root directory that nobody serves: %v", err)
	}
}
