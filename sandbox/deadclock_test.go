package sandbox_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// A kernel without a timer, as Linux is by itself where it finds the timer's rate
// impossible, has no other on a board with ACPI. No such machine becomes ready, its
// clock may move or not, and it is tried twice.
func TestDeadClock(t *testing.T) {
	for _, kernel := range kernels(t) {
		if strings.HasPrefix(kernel, "krunfw-") {
			continue // Without ACPI there is the interval timer.
		}
		choice := []string{"nolapic_timer", "nolapic_timer notsc"}
		if strings.HasPrefix(kernel, "6.12.") {
			t.Logf("%s: without any clock this kernel itself waits for ever, in a mount; the start's deadline ends it", kernel)
			choice = choice[:1]
		}
		for _, words := range choice {
			var lines []string
			cfg := sandbox.Config{Kernel: kernel, Log: func(line string) { lines = append(lines, line) }}
			_, err := tryStart(t, hooks.With(cfg, hooks.Machine{ExtraWords: strings.Fields(words)}))
			failed, ok := errors.AsType[*sandbox.BootError](err)
			if !ok || !strings.HasPrefix(failed.Reason, "init failed: "+bootenv.DeadClock+": ") {
				t.Errorf("%s: %v", words, err)
			}
			if len(lines) != 1 || !strings.Contains(lines[0], "once more") {
				t.Errorf("%s: the log has %q", words, lines)
			}
		}
	}
}

// Machines boot on a host whose processors are all busy, and their clocks go: a second
// takes a second of the guest's time. AGENTD_LONG=1 boots 100 of each kernel, beside three
// times the load.
func TestClockUnderLoad(t *testing.T) {
	boots, load := 1, 2
	if os.Getenv("AGENTD_LONG") != "" {
		boots, load = 100, 6
	}
	names := kernels(t)
	keepBusy(t, load*runtime.NumCPU())
	for _, kernel := range names {
		again := 0
		for n := range boots {
			m, err := tryStart(t, sandbox.Config{Kernel: kernel, Log: func(string) { again++ }})
			if err != nil {
				t.Fatalf("%s, boot %d: %v", kernel, n, err)
			}
			start := time.Now()
			say(t, m, "sleep 1; sleep 0.01")
			if took := time.Since(start); took < time.Second {
				t.Errorf("%s, boot %d: a second took %v", kernel, n, took)
			}
			if err := m.Kill(); err != nil { // An orderly end has a deadline, which is not for such a host.
				t.Error(err)
			}
		}
		t.Logf("%s: %d boots, %d started once more", kernel, boots, again)
	}
}

// keepBusy has programs that do nothing else compute until the test's end.
func keepBusy(t *testing.T, programs int) {
	t.Helper()
	for range programs {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // It was killed.
		})
	}
}

// A template with a dead clock is removed: every machine from it would be dead. Other failures
// of a boot are the configuration's.
func TestDeadTemplate(t *testing.T) {
	if !sandbox.BlamesTemplate("init failed: " + bootenv.DeadClock + ": it does not move") {
		t.Error("a template with a dead clock is kept")
	}
	if sandbox.BlamesTemplate("init failed: mount /x: no such device") {
		t.Error("a template is removed for a fault of the configuration")
	}
}
