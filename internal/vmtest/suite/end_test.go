package suite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	// windowOnHardware is the agent's promise: 1 s for the commands, and a few for the
	// file systems.
	windowOnHardware = 5 * time.Second
	// windowEmulated leaves the kernel time to end a fork bomb's thousands of
	// processes, each a millisecond and more in emulation on a busy host.
	windowEmulated = 12 * time.Second

	needsRestart = "it switches the machine off, which no monitor without ACPI sees"
)

// eachKernel runs a test on each kernel, told by bootstrap.
func eachKernel(t *testing.T, f func(t *testing.T, kernel string)) {
	t.Helper()
	for _, kernel := range vmtest.Kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			f(t, kernel)
		})
	}
}

func in(t *testing.T, m *vmtest.Machine) *guest {
	t.Helper()
	return within(t, m, patience)
}

// initPatience bounds the boot of another init, which takes seconds of processor time
// on a busy host, where the agent's boot takes tenths.
const initPatience = 5 * patience

func within(t *testing.T, m *vmtest.Machine, patience time.Duration) *guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &guest{Machine: m, ctx: ctx}
}

// A shutdown ends the commands by SIGTERM and loses no file.
//
//holds:boot 26: what was written just before is there
func TestShutdown(t *testing.T) {
	ownOnly(t, needsRestart)
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		root := vmtest.Root(t)
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel, Root: root})
		g := in(t, m)
		trap, err := talk(g.sh("trap 'echo trapped >/term; exit' TERM; echo ready; while :; do sleep 0.1; done"))
		if err == nil {
			err = trap.hear("ready\n")
		}
		if err == nil {
			_, err = g.say("exec 3>/open; echo unfinished >&3; echo last >/last")
		}
		if err != nil {
			t.Fatal(err)
		}
		end(t, m)
		for name, want := range map[string]string{"last": "last\n", "term": "trapped\n", "open": "unfinished\n"} {
			if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != want {
				t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
			}
		}
	})
}

// end shuts a machine down and holds it to its window.
func end(t *testing.T, m *vmtest.Machine) {
	t.Helper()
	window := windowOnHardware
	if m.Emulated() {
		window = windowEmulated
	}
	if err := m.Client().Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	took := m.AwaitEnd()
	t.Logf("ended %v after it was asked to", took.Round(time.Millisecond))
	if took > window {
		t.Errorf("it took %v to end, want at most %v", took, window)
	}
}

// No command holds the machine: not one that ignores SIGTERM, not a fork bomb.
//
//holds:boot 26: the machine is gone within the window, beside processes that ignore SIGTERM, open files, fork bombs
func TestShutdownOfTheStubborn(t *testing.T) {
	ownOnly(t, needsRestart)
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		for name, script := range map[string]string{
			"deaf":      "trap '' TERM; echo ready; exec 3>/held; while :; do :; done",
			"fork bomb": "bomb() { bomb | bomb & }; trap '' TERM; bomb; echo ready",
		} {
			t.Run(name, func(t *testing.T) {
				m := vmtest.Start(t, sandbox.Config{Kernel: kernel})
				m.Allow("Out of memory") // The kernel may end a fork bomb itself.
				d, err := talk(in(t, m).sh(script))
				if err == nil {
					err = d.hear("ready\n")
				}
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(bombTime)
				end(t, m)
			})
		}
	})
}

// bombTime lets a fork bomb grow; there is nothing in it to wait for.
const bombTime = time.Second

// A host that closes the port is gone, and the machine ends.
//
//holds:boot 23: the host closes the port: the machine ends
func TestPortClosed(t *testing.T) {
	ownOnly(t, needsRestart)
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel})
		if err := in(t, m).sh("sleep 1000 & exec sleep 1000").Start(); err != nil {
			t.Fatal(err)
		}
		if err := m.Client().Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("ended after %v", m.AwaitEnd().Round(time.Millisecond))
	})
}
