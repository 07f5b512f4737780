package vmm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Under the guard a program changes modes as it likes, but for the two bits. This
// test's program is the guard, as every program with this package is.
func TestGuard(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		script string
		want   os.FileMode // 0 for a refusal.
	}{
		{"chmod 0751 f", 0o751},
		{"chmod 1700 f", 0o700 | os.ModeSticky},
		{"chmod 4755 f", 0},
		{"chmod 2755 f", 0},
		{"chmod 6755 f", 0},
		{"umask 0; echo >g; mv g f", 0o666},
		{"mkdir d; rm f; mv d f", 0o755 | os.ModeDir},
		{"mkdir d; chmod 2775 d", 0},
	} {
		t.Run(tt.script, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, guardWord, "/bin/sh", "-c", "umask 022; "+tt.script)
			cmd.Dir = filepath.Dir(file)
			out, err := cmd.CombinedOutput()
			if tt.want == 0 {
				if err == nil || !strings.Contains(string(out), "Operation not permitted") {
					t.Errorf("not refused: %v, %s", err, out)
				}
				return
			}
			info, lost := os.Lstat(file)
			if err != nil || lost != nil || info.Mode() != tt.want {
				t.Errorf("got %v, want %v; %v, %v\n%s", info.Mode(), tt.want, err, lost, out)
			}
		})
	}
}

// A program that cannot be executed causes an error.
func TestGuardWithoutProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), self, guardWord, "/nowhere/virtiofsd").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/nowhere/virtiofsd: no such file") {
		t.Errorf("got %v, %q", err, out)
	}
}

// The filter looks at the call's numbers and arguments as the kernel lays them out.
func TestSetIDFilter(t *testing.T) {
	if filter, err := setIDFilter(); err != nil || len(filter) == 0 {
		t.Errorf("%d instructions, %v", len(filter), err)
	}
}
