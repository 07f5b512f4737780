package suite

import (
	"context"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// The inits of System V and OpenRC with their scripts, on a disk. A boot by scripts
// takes an emulated machine a minute, so they are a trial. The power-off of OpenRC's
// own init inside is not here: see BOOT.md, section 26.
func TestHandoverInits(t *testing.T) {
	ownOnly(t, needsHandover)
	if !long() {
		t.Skip("boots by scripts take minutes: AGENTD_LONG=1, after scripts/setup inits")
	}
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		for _, c := range []struct{ root, init, name, way string }{
			{"sysv", "auto", "init", "shutdown"},
			{"sysv", "/sbin/init", "init", "poweroff"},
			{"openrc", "auto", "init", "shutdown"},
			{"openrc", "/sbin/init", "init", "poweroff"},
			{"openrc", "/sbin/openrc-init", "openrc-init", "shutdown"},
		} {
			t.Run(c.root+" "+c.init+" "+c.way, func(t *testing.T) {
				disk := vmtest.Disk(t, "ext4", vmtest.InitRoot(t, c.root))
				m := vmtest.Start(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{{Path: disk}}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
					BlockRoot: &wire.DiskImage{Device: "/dev/vda"}, HandoffInit: &wire.HandoffInit{Cmd: c.init},
				}}))
				underScripts(t, m, c.name)
				if c.way == "shutdown" {
					end(t, m)
				} else {
					byScripts(t, in(t, m), c.way)
				}
				if dirty(t, disk) {
					t.Error("the journal needs recovery")
				}
			})
		}
	})
}

// underScripts waits for the end of a boot by scripts. It asks from outside, and
// seldom: a command that looked would take a good part of an emulated processor.
func underScripts(t *testing.T, m *vmtest.Machine, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), initPatience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, err := m.Client().Stat(ctx, "/up"); err != nil; _, err = m.Client().Stat(ctx, "/up") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("its boot is not over: %v", err)
		}
	}
	b, err := m.Client().ReadFile(ctx, "/proc/1/comm")
	if want := name + "\n"; err != nil || string(b) != want {
		t.Fatalf("PID 1 is %q, %v, want %q", b, err, want)
	}
}

// byScripts ends the machine by a command in it. How long the scripts take is not the
// agent's affair.
func byScripts(t *testing.T, g *guest, way string) {
	t.Helper()
	if err := g.sh("trap '' TERM; while :; do sleep 1; done").Start(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := g.sh(way).Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.Done():
	case <-g.ctx.Done():
	}
	g.AwaitEnd()
	t.Logf("ended %v after %s inside", time.Since(start).Round(time.Millisecond), way)
}
