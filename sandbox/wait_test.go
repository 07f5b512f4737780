package sandbox

import (
	"errors"
	"strings"
	"testing"
)

func TestEnd(t *testing.T) {
	t.Parallel()
	failed := errors.New("qemu: signal: killed")
	const panicked = "[    0.1] a\r\n[    1.234567][    T1] Kernel panic - not syncing: Attempted to kill init!\r\n[    1.3] reboot\r\n"
	const word = "[    1.103417] Kernel panic - not syncing: "
	for name, tt := range map[string]struct {
		killed  bool
		err     error
		console string
		want    EndReason // "" is an end in order.
		text    string
	}{
		"in order":         {console: "[    0.1] reboot: Power down\n"},
		"killed":           {killed: true, err: failed, want: EndKilled, text: "the machine was killed"},
		"killed too late":  {killed: true},
		"failed":           {err: failed, want: EndFailed, text: "the machine failed: qemu: signal: killed"},
		"panic":            {console: panicked, want: EndPanic, text: "the machine's kernel panicked: Attempted to kill init!"},
		"a command's text": {console: "it printed Kernel panic - not syncing: x\n"},
		"printed by root":  {console: word + "x\r\n[    1.2] reboot: Restarting system\r\n"},
		"panic at the end": {console: "[    1.1] reboot: Power down\r\n" + word + "late", want: EndPanic, text: "the machine's kernel panicked: late"},
		"the last of two":  {console: word + "one\n[    1.2] reboot: x\n" + word + "two\n", want: EndPanic, text: "the machine's kernel panicked: two"},
		"killed after it":  {console: word + "x\n", killed: true, err: failed, want: EndPanic, text: "the machine's kernel panicked: x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := endOf(tt.killed, tt.err, []byte(tt.console))
			end, ok := errors.AsType[*EndError](err)
			if ok != (tt.want != "") || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if ok && (end.Reason != tt.want || end.Error() != tt.text || (end.Reason != EndPanic && !errors.Is(end.Unwrap(), tt.err))) {
				t.Errorf("got %s, %q", end.Reason, end)
			}
		})
	}
}

func TestPanicTrace(t *testing.T) {
	t.Parallel()
	console := "before\r\n[    1.0] Kernel panic - not syncing: x\r\n" + strings.Repeat("[    1.0] line\r\n", 2*traceLines)
	end := panicOn([]byte(console))
	if lines := strings.Split(end.Trace, "\n"); len(lines) != traceLines || lines[0] != "[    1.0] Kernel panic - not syncing: x" || lines[1] != "[    1.0] line" {
		t.Errorf("got %q", end.Trace)
	}
}
