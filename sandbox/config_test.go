package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // "" is accepted.
	}{
		{"zero", Config{}, ""},
		{"root that is not there", Config{Root: "/nonexistent"}, "/nonexistent"},
		{"root that is a file", Config{Root: file}, "not a directory"},
		{"accelerator", Config{Accel: "magic"}, `accelerator "magic"`},
		{"room for translated code", Config{TranslationMiB: 16}, ""},
		{"little room for translated code", Config{TranslationMiB: 15}, "15 MiB for translated code"},
		{"negative room for translated code", Config{TranslationMiB: -1}, "-1 MiB for translated code"},
		{"environment", Config{Env: []string{"A=1", "B"}}, `"B"`},
		{"environment without a key", Config{Env: []string{"=1"}}, `"=1"`},
		{"directory by environment", Config{Configuration: ByEnvironment, Dir: "/srv"}, "directory"},
		{"directory by bootstrap", Config{Dir: "/srv"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.check()
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func wordsOf(t *testing.T, cfg Config) []string {
	t.Helper()
	words, err := cfg.words()
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// Both configurations say the same of a machine.
func TestBothConfigurations(t *testing.T) {
	cfg := Config{
		Hostname: "web", User: "1000:1000", Restricted: true, Env: []string{"A=1 2"},
		Limits: []client.Limit{{Resource: "nofile", Soft: 5, Hard: 6}, {Resource: "core", Soft: 0, Hard: 0}},
		Debug:  []string{"boot", "plan"},
	}
	b := cfg.bootstrap()
	if *b.Hostname != "web" || *b.User != "1000:1000" || b.SecurityProfile != wire.ProfileRestricted ||
		!slices.Equal(b.DefaultEnv, []wire.EnvVar{{Key: "A", Value: "1 2"}}) || len(b.Rlimits) != 2 || b.DefaultCwd != nil {
		t.Errorf("bootstrap %+v", b)
	}
	if got, want := wordsOf(t, cfg), []string{"AGENTD_DEBUG=boot,plan"}; !slices.Equal(got, want) {
		t.Errorf("words beside a bootstrap: %q, want %q", got, want)
	}
	cfg.Configuration = ByEnvironment
	want := []string{
		"AGENTD_DEBUG=boot,plan", "MSB_SECURITY_PROFILE=restricted", "MSB_HOSTNAME=web", "MSB_USER=1000:1000",
		"MSB_RLIMITS=nofile=5:6;core=0:0", "A=1 2",
	}
	if got := wordsOf(t, cfg); !slices.Equal(got, want) {
		t.Errorf("words %q, want %q", got, want)
	}
	cfg.hooks.ExtraWords = []string{"MSB_TMPFS=/x"}
	if got := wordsOf(t, cfg); !slices.Equal(got, append(want, "MSB_TMPFS=/x")) {
		t.Errorf("words %q do not end in the extra one", got)
	}
	cfg.hooks.Bootstrap = new(wire.Bootstrap)
	if cfg.bootstrap() != cfg.hooks.Bootstrap {
		t.Error("the message was not replaced")
	}
}

func TestReason(t *testing.T) {
	for _, tt := range []struct{ console, want string }{
		{"", ""},
		{"[    1.0] Kernel panic - not syncing: failed: no", ""},
		{"agentd: step mounts took 1ms\nagentd: left out: mount failed: x", ""},
		{"agentd: init failed: step share: no\n[ 1.2] reboot: Restarting system", "init failed: step share: no"},
	} {
		if got := reason(strings.Split(tt.console, "\n")); got != tt.want {
			t.Errorf("reason(%q) = %q, want %q", tt.console, got, tt.want)
		}
	}
}

// QEMU's arguments name the taps in two places, in the same order.
func TestTaps(t *testing.T) {
	file := os.Stdin
	cfg := Config{Taps: []Tap{{Name: "tap0", MAC: [6]byte{2, 1}, File: file}, {Name: "tap1", MAC: [6]byte{2, 2}, File: file}}}
	var l layout
	if err := l.attach(cfg); err != nil {
		t.Fatal(err)
	}
	if len(l.machine.Taps) != 2 || l.machine.Taps[1].Name != "tap1" || l.machine.Taps[1].MAC[1] != 2 || len(cfg.tapFiles()) != 2 {
		t.Errorf("taps %+v, files %v", l.machine.Taps, cfg.tapFiles())
	}
	if !slices.Contains(cfg.guestModules(), "virtio_net") {
		t.Error("the guest has no driver for its cards")
	}
}
