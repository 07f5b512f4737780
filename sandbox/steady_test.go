package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmm"
)

// sharesOf lays out everything that is shared with one machine, by tag.
func sharesOf(t *testing.T, cfg Config, accel vmm.Accel, root string, private bool) map[string]vmm.Share {
	t.Helper()
	l := &layout{dir: t.TempDir(), machine: vmm.Machine{Accel: accel}}
	if err := l.attach(cfg); err != nil {
		t.Fatal(err)
	}
	if err := l.fromRoot(cfg, []byte("agent"), root, private); err != nil {
		t.Fatal(err)
	}
	all := map[string]vmm.Share{}
	for _, s := range l.machine.Shares {
		all[s.Tag] = s
	}
	return all
}

// A guest caches a root only if no other program writes to it.
func TestWhatTheUserSharesIsNotSteady(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Shares: []Share{{Tag: "data", Dir: dir}}, Mounts: []Mount{{Source: dir, Target: "/a"}, {Source: file, Target: "/b"}}}
	readOnly, foreign := cfg, cfg
	readOnly.ReadOnlyRoot, foreign.hooks.Foreign = true, true
	for name, tt := range map[string]struct {
		cfg     Config
		accel   vmm.Accel
		private bool
		steady  string // Tags.
	}{
		"own root":            {cfg, vmm.TCG, true, "/dev/root"},
		"own root, read-only": {readOnly, vmm.TCG, true, "/dev/root root"},
		"own root, KVM":       {cfg, vmm.KVM, true, ""},
		"the user's":          {cfg, vmm.TCG, false, "/dev/root"}, // The agent's first root is the machine's.
		"the user's, foreign": {foreign, vmm.TCG, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var steady string
			shares := sharesOf(t, tt.cfg, tt.accel, t.TempDir(), tt.private)
			for _, tag := range []string{"data", "mount0", "mount1", rootTag, realTag} {
				if shares[tag].Steady {
					steady = strings.TrimSpace(steady + " " + tag)
				}
			}
			if steady != tt.steady {
				t.Errorf("steady are %q, want %q", steady, tt.steady)
			}
		})
	}
	l := &layout{machine: vmm.Machine{Accel: vmm.TCG}}
	l.enter(dir, false, false)
	if l.machine.Shares[0].Steady {
		t.Error("a stock kernel's guest keeps what it has read of the user's root")
	}
}
