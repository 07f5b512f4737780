package machines

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A machine without a state has started no process, and no process of the host is looked at
// for it: one that claims to be its own lives on.
func TestNoStrays(t *testing.T) {
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("needs /proc")
	}
	m := &Machine{dir: t.TempDir()}
	claims := exec.CommandContext(t.Context(), "sleep", "1000")
	claims.Env = append(os.Environ(), Variable+"="+m.dir)
	if err := claims.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		_ = claims.Wait() // It is killed.
	}()
	defer func() {
		_ = claims.Process.Kill()
		<-reaped
	}()
	if err := m.endStrays(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := strays(m.dir); len(found) != 1 || found[0] != claims.Process.Pid {
		t.Errorf("%v belong to the machine, want %d", found, claims.Process.Pid)
	}
	if err := os.WriteFile(filepath.Join(m.dir, stateName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.endStrays(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := strays(m.dir); len(found) != 0 {
		t.Errorf("%v are left", found)
	}
}
