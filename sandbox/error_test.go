package sandbox_test

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/sandbox"
)

// A user that is not there is a line; whatever else comes with the console.
func TestBootErrorIsShortForNames(t *testing.T) {
	for failure, lines := range map[string]int{"user_not_found": 1, "group_not_found": 1, "unknown": 5, "": 5} {
		e := &sandbox.BootError{Reason: "no such user: bob", Failure: failure, Console: "line", Command: "qemu"}
		if got := strings.Count(e.Error(), "\n") + 1; got != lines || !strings.Contains(e.Error(), "bob") {
			t.Errorf("%q: %d lines, want %d:\n%s", failure, got, lines, e.Error())
		}
	}
}

// Only a panic after a breakpoint counts: a kernel may survive an oops, and panics for other reasons.
func TestMissedPatch(t *testing.T) {
	const oops, panicked = "[    0.665663] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n", "[    0.681336] Kernel panic - not syncing: Fatal exception in interrupt\n"
	for console, want := range map[string]bool{
		oops + panicked: true, panicked: false, oops: false, "": false,
		"[    0.1] Oops: general protection fault\n" + panicked: false,
	} {
		if got := sandbox.MissedPatch(console); got != want {
			t.Errorf("%q: %v", console, got)
		}
	}
}
