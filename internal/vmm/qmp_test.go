package vmm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {}, "capabilities": []}}` + "\r\n"

// fakeQMP is QEMU's end: it sends the greeting, and then answers each command with the
// result of answer, in which %d stands for the command's id. For an empty answer it
// closes the link.
func fakeQMP(t *testing.T, hello string, answer func(line string) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	say := func(text string) { _, _ = io.WriteString(theirs, text) } // An error is the client's hang-up.
	go func() {
		defer func() { _ = theirs.Close() }()
		say(hello)
		lines := bufio.NewScanner(theirs)
		for id := 1; lines.Scan(); id++ {
			reply := answer(lines.Text())
			if reply == "" {
				return
			}
			say(strings.ReplaceAll(reply, "%d", strconv.Itoa(id)))
		}
	}()
	return ours
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

const returned = `{"return": {}, "id": %d}` + "\r\n"

func TestQMPHandshakeRefuses(t *testing.T) {
	fine := func(string) string { return returned }
	for _, c := range []struct {
		name, hello string
		answer      func(string) string
		want        string
	}{
		{"no JSON", "hello\n", fine, "invalid character"},
		{"no greeting", `{"return": {}}` + "\n", fine, "qmp greeting"},
		{"a line without end", strings.Repeat("x", qmpLine+1), fine, "too long"},
		{"refusal", greeting, func(string) string {
			return `{"error": {"class": "GenericError", "desc": "no"}, "id": %d}` + "\n"
		}, "GenericError: no"},
		{"hang-up", greeting, func(string) string { return "" }, "closed its control link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newQMP(within(t, 10*time.Second), fakeQMP(t, c.hello, c.answer))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestQMPHandshakeHasADeadline(t *testing.T) {
	_, err := newQMP(within(t, 50*time.Millisecond), fakeQMP(t, "", nil))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestQMPExecute(t *testing.T) {
	var commands []string
	q, err := newQMP(within(t, 10*time.Second), fakeQMP(t, greeting, func(line string) string {
		commands = append(commands, line)
		switch {
		case strings.Contains(line, "stop"): // Among noise that it has to skip.
			return `{"event": "STOP", "data": {}}` + "\n" + `{"return": {}, "id": 77}` + "\nnoise\n" + returned + returned
		case strings.Contains(line, "cont"):
			return `{"error": {"class": "GenericError", "desc": "not now"}, "id": %d}` + "\n"
		case strings.Contains(line, "silence"):
			return `{"event": "X"}` + "\n"
		case strings.Contains(line, "quit"):
			return ""
		}
		return returned
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 10*time.Second)
	if err := q.execute(ctx, "stop"); err != nil {
		t.Error(err)
	}
	if refusal, ok := errors.AsType[*QMPError](q.execute(ctx, "cont")); !ok || refusal.Desc != "not now" {
		t.Errorf("cont: %v", refusal)
	}
	if err := q.execute(within(t, 50*time.Millisecond), "silence"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	for range 2 { // While it ends, and after.
		if err := q.execute(ctx, "quit"); err == nil {
			t.Error("quit: no error from a link that ended")
		}
	}
	if len(q.waiting) != 0 || commands[0] != `{"execute":"qmp_capabilities","id":1}` {
		t.Errorf("%d still waiting, first command %s", len(q.waiting), commands[0])
	}
}
