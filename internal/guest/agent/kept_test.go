package agent_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// keep is a request for a kept command.
func keep(script string, k wire.Keep) *wire.ExecRequest {
	req := sh(script)
	req.Keep = &k
	return req
}

// view is what a client of a kept command has seen.
type view struct {
	start          *wire.KeptStart
	stdout, stderr []byte
	gaps           []wire.KeptGap
	errors         []*wire.ExecStdinError
	last           wire.Message
}

// see takes the frames of a session until done says that it is enough, or to its last one.
func (h *host) see(id uint32, done func(*view) bool) *view {
	h.t.Helper()
	v := new(view)
	for v.last == nil && (done == nil || !done(v)) {
		switch m := h.next(id).Message.(type) {
		case *wire.ExecStarted:
			v.start = m.Kept
		case *wire.ExecStdout:
			v.stdout = append(v.stdout, m.Data...)
		case *wire.ExecStderr:
			v.stderr = append(v.stderr, m.Data...)
		case *wire.KeptGap:
			v.gaps = append(v.gaps, *m)
		case *wire.KeptInput:
		case *wire.ExecStdinError:
			v.errors = append(v.errors, m)
		default:
			v.last = m
		}
	}
	return v
}

func isExit(m wire.Message, code int32) bool {
	exit, ok := m.(*wire.ExecExited)
	return ok && exit.Code == code
}

func seen(text string) func(*view) bool {
	return func(v *view) bool { return strings.Contains(string(v.stdout), text) }
}

// left says that the client with the first slot's ids has gone.
func (h *host) left() {
	h.t.Helper()
	h.send(0, &wire.ClientDisconnected{IDStart: 1, IDEndExclusive: 0x01ffffff})
	h.ping()
}

func (h *host) listKept() []wire.KeptCommand {
	h.t.Helper()
	h.send(900, &wire.KeptList{})
	m, ok := h.next(900).Message.(*wire.KeptListed)
	if !ok {
		h.t.Fatal("no list")
	}
	return m.Commands
}

func (h *host) release(name string) wire.KeptRefusal {
	h.t.Helper()
	h.send(901, &wire.KeptRelease{Name: name})
	m, ok := h.next(901).Message.(*wire.KeptReleased)
	if !ok {
		h.t.Fatal("no answer to a release")
	}
	return m.Refusal
}

// A kept command outlives its client, whose relay kills what it knows as the client's
// commands. Another client gets every byte, from any offset, and the end.
func TestKeptOutlivesClient(t *testing.T)    { outliveOn(t, 4) }
func TestKeptOutlivesClientOf7(t *testing.T) { outliveOn(t, 7) }
func TestKeptOutlivesClientOf8(t *testing.T) { outliveOn(t, 8) }

func outliveOn(t *testing.T, g wire.Generation) {
	t.Helper()
	nstest.Run(t, func() {
		nstest.Root(t)
		outliveClient(newHost(t, config{generation: g}))
	})
}

func outliveClient(h *host) {
	t := h.t
	h.send(5, keep("echo one; echo err >&2; read x; echo $x; exit 3", wire.Keep{Name: "job"}))
	v := h.see(5, func(v *view) bool { return len(v.stdout) == 4 && len(v.stderr) == 4 })
	if v.start == nil || v.start.Name != "job" || v.start.Stdout != 0 {
		t.Fatalf("started as %+v", v.start)
	}
	h.send(5, &wire.ExecSignal{Signal: 9})
	h.left()
	var list []wire.KeptCommand
	eventually(t, "the client is gone", func() bool { list = h.listKept(); return len(list) == 1 && list[0].Clients == 0 })
	if list[0].Name != "job" || list[0].Code != nil || list[0].Stdout.End != 4 {
		t.Fatalf("listed as %+v", list)
	}
	if r := h.release("job"); r != wire.KeptRunning {
		t.Errorf("release: %q", r)
	}
	h.send(6, &wire.KeptAttach{Name: "job", Streams: wire.KeptBoth, Stdout: new(uint64(2)), Stderr: new(uint64(math.MaxUint64)), Write: true})
	v = h.see(6, seen("e\n"))
	if string(v.stdout) != "e\n" || v.start.Stdout != 2 || v.start.Stderr != 4 {
		t.Errorf("attached at %+v: %q", v.start, v.stdout)
	}
	h.send(6, &wire.ExecStdin{Data: []byte("two\n")})
	v = h.see(6, nil)
	if exit, ok := v.last.(*wire.ExecExited); !ok || exit.Code != 3 || string(v.stdout) != "two\n" || len(v.stderr) > 0 {
		t.Errorf("ended as %+v, %q", v.last, v.stdout)
	}
	h.send(7, &wire.KeptAttach{Name: "job", Streams: wire.KeptBoth})
	v = h.see(7, nil)
	if exit, ok := v.last.(*wire.ExecExited); !ok || exit.Code != 3 || string(v.stdout) != "one\ntwo\n" || string(v.stderr) != "err\n" {
		t.Errorf("after its end: %+v, %q, %q", v.last, v.stdout, v.stderr)
	}
	if r := h.release("job"); r != "" {
		t.Errorf("release: %q", r)
	}
	if r := h.release("job"); r != wire.KeptUnknown {
		t.Errorf("second release: %q", r)
	}
	if list := h.listKept(); len(list) != 0 {
		t.Errorf("still listed: %+v", list)
	}
}

// The client that asked last has the input. The one before is told, and its bytes are not
// taken; when the last one leaves, the next may have it.
func TestKeptInputPassesOn(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(5, keep("while read x; do echo got $x; done; echo end", wire.Keep{Name: "cat"}))
		h.send(5, &wire.ExecStdin{Data: []byte("a\n")})
		h.see(5, seen("got a"))
		h.send(6, &wire.KeptAttach{Name: "cat", Streams: wire.KeptBoth, Write: true})
		v := h.see(6, seen("got a"))
		if v.start.Stdin != 2 {
			t.Errorf("the agent has taken %d bytes", v.start.Stdin)
		}
		h.send(5, &wire.ExecStdin{Data: []byte("lost\n")})
		h.send(6, &wire.ExecStdin{Data: []byte("b\n")})
		h.see(6, seen("got b"))
		v = h.see(5, seen("got b"))
		if len(v.errors) != 1 || *v.errors[0].ErrnoName != "EBUSY" {
			t.Errorf("the client before was told %+v", v.errors)
		}
		h.send(6, &wire.KeptDetach{})
		if v = h.see(6, nil); v.last.Type() != wire.TypeKeptDetached {
			t.Errorf("detached with %s", v.last.Type())
		}
		h.send(7, &wire.KeptAttach{Name: "cat", Streams: wire.KeptBoth, Write: true, Stdout: new(uint64(math.MaxUint64))})
		h.send(7, &wire.ExecStdin{Data: []byte("c\n")})
		h.send(7, &wire.ExecStdin{})
		if v = h.see(7, nil); string(v.stdout) != "got c\nend\n" {
			t.Errorf("the last client saw %q", v.stdout)
		}
		if v = h.see(5, nil); string(v.stdout) != "got c\nend\n" || strings.Contains(string(v.stdout), "lost") {
			t.Errorf("the first client saw %q", v.stdout)
		}
	})
}

// Signals of a client reach the command, those of a relay do not.
func TestKeptSignals(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(5, keep("trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.01; done", wire.Keep{}))
		h.see(5, seen("ready"))
		h.send(5, &wire.ExecSignal{Signal: 15})
		h.ping()
		if list := h.listKept(); len(list) != 1 || list[0].Code != nil || list[0].Name != "c1" {
			t.Fatalf("a signal without its mark ended %+v", list)
		}
		h.send(5, &wire.ExecSignal{Signal: 15, Kept: true})
		if v := h.see(5, nil); string(v.stdout) != "term\n" || !isExit(v.last, 9) {
			t.Errorf("%q, %+v", v.stdout, v.last)
		}
	})
}

// A ring that is full forgets the oldest bytes, and a reader is told where it goes on.
func TestKeptGap(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(5, keep("i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done", wire.Keep{Name: "log", Memory: 4096, Disk: new(uint64)}))
		whole := h.see(5, nil)
		h.send(6, &wire.KeptAttach{Name: "log", Streams: wire.KeptBoth, Stdout: new(uint64)})
		v := h.see(6, nil)
		if v.start.Stdout == 0 || len(v.gaps) > 0 {
			t.Errorf("attached at %+v with gaps %+v", v.start, v.gaps)
		}
		var all strings.Builder
		for i := range 9000 {
			fmt.Fprintf(&all, "line %d\n", i)
		}
		if want := all.String()[v.start.Stdout:]; string(v.stdout) != want || len(want) > 4096 {
			t.Errorf("%d bytes from %d on", len(v.stdout), v.start.Stdout)
		}
		// The first client's bytes are those of the command too, but for its gaps.
		total := uint64(len(whole.stdout))
		if len(whole.gaps) == 0 && total != uint64(all.Len()) {
			t.Errorf("%d of %d bytes, and no gap", total, all.Len())
		}
	})
}

// With the other policy the command waits until the client that has the input has consumed.
func TestKeptWaits(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(5, keep("head -c 1000000 /dev/zero; echo done >&2", wire.Keep{Name: "w", Disk: new(uint64), Full: wire.FullWait}))
		h.see(5, func(v *view) bool { return len(v.stdout) >= 64<<10 })
		h.left()
		h.send(6, &wire.KeptAttach{Name: "w", Streams: wire.KeptBoth, Write: true})
		if first := h.see(6, func(v *view) bool { return len(v.stdout) >= 64<<10 }); first.start.Stdout != 0 {
			t.Errorf("bytes that nobody has consumed are gone: %+v", first.start)
		}
		h.send(6, &wire.KeptConsumed{Stdout: 64 << 10})
		acked := 64 << 10
		v := h.see(6, func(v *view) bool {
			if got := 64<<10 + len(v.stdout); got-acked >= 16<<10 {
				acked = got
				h.send(6, &wire.KeptConsumed{Stdout: uint64(got)})
			}
			return false
		})
		if string(v.stderr) != "done\n" || len(v.stdout) != 1_000_000-64<<10 || len(v.gaps) > 0 {
			t.Errorf("%q, %d bytes, %+v", v.stderr, len(v.stdout), v.gaps)
		}
	})
}

// What cannot be met is refused by the field's name, and nothing is kept of it.
func TestKeptRefusals(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(5, keep("sleep 100", wire.Keep{Name: "taken"}))
		h.see(5, func(v *view) bool { return v.start != nil })
		for _, tt := range []struct {
			k    wire.Keep
			want string
			kind wire.FailureKind
		}{
			{wire.Keep{Name: "taken"}, "keep.name taken", wire.FailureOther},
			{wire.Keep{Name: "-x"}, `keep.name "-x"`, wire.FailureBadArgs},
			{wire.Keep{Name: "a b"}, `keep.name "a b"`, wire.FailureBadArgs},
			{wire.Keep{Name: strings.Repeat("x", 65)}, "keep.name", wire.FailureBadArgs},
			{wire.Keep{Memory: 1 << 30}, "keep.memory 1073741824", wire.FailureBadArgs},
			{wire.Keep{Disk: new(uint64(1 << 40))}, "keep.disk 1099511627776", wire.FailureBadArgs},
			{wire.Keep{AgeSecs: 1 << 31}, "keep.age_secs 2147483648", wire.FailureBadArgs},
		} {
			h.send(6, keep("true", tt.k))
			m, ok := h.next(6).Message.(*wire.ExecFailed)
			if !ok || m.Kind != tt.kind || !strings.Contains(m.Message, tt.want) {
				t.Errorf("%+v: %+v", tt.k, m)
			}
		}
		h.send(7, &wire.ExecRequest{Cmd: "/no/such", Keep: &wire.Keep{Name: "bad"}})
		if m, ok := h.next(7).Message.(*wire.ExecFailed); !ok || m.Kind != wire.FailureNotFound {
			t.Errorf("%+v", m)
		}
		h.send(8, &wire.KeptAttach{Name: "bad"})
		if m, ok := h.next(8).Message.(*wire.ExecFailed); !ok || m.Kind != wire.FailureNotFound {
			t.Errorf("%+v", m)
		}
		if list := h.listKept(); len(list) != 1 {
			t.Errorf("kept are %+v", list)
		}
		h.send(5, &wire.ExecSignal{Signal: 9, Kept: true})
		h.see(5, nil)
	})
}

// The number that run is bounded, and of those that have ended the oldest are forgotten.
func TestKeptBounds(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		for i := range uint32(64) {
			h.send(100+i, keep("read x", wire.Keep{}))
			h.see(100+i, func(v *view) bool { return v.start != nil })
		}
		h.send(99, keep("true", wire.Keep{}))
		if m, ok := h.next(99).Message.(*wire.ExecFailed); !ok || m.Kind != wire.FailureResourceLimit {
			t.Errorf("one too many: %+v", m)
		}
		for i := range uint32(64) {
			h.send(100+i, &wire.ExecStdin{})
			h.see(100+i, nil)
		}
		for i := range 3 {
			h.send(99, keep("true", wire.Keep{Name: fmt.Sprint("late", i)}))
			h.see(99, nil)
		}
		list := h.listKept()
		for start := time.Now(); len(list) > 64 && time.Since(start) < 10*time.Second; { // A client sees an end a moment before it is counted.
			list = h.listKept()
		}
		if len(list) != 64 || !slices.ContainsFunc(list, func(c wire.KeptCommand) bool { return c.Name == "late2" }) {
			t.Errorf("%d are kept", len(list))
		}
	})
}

// A terminal repaints: its program is told of a size, also of the one that it has.
func TestKeptTerminal(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		req := tty("trap 'stty size' WINCH; echo ready; while read x; do :; done")
		req.Keep = &wire.Keep{Name: "t"}
		h.send(5, req)
		h.see(5, seen("ready"))
		h.left()
		h.send(6, &wire.KeptAttach{Name: "t", Streams: wire.KeptBoth, Write: true, Rows: 24, Cols: 80})
		v := h.see(6, seen("ready"))
		if !v.start.TTY || bytes.Contains(v.stdout, []byte("24 80")) {
			t.Fatalf("%+v %q", v.start, v.stdout)
		}
		// The shell runs its trap after the read that the signal interrupts, or the next line.
		h.send(6, &wire.ExecStdin{Data: []byte("\n")})
		h.see(6, seen("24 80"))
		h.send(6, &wire.ExecSignal{Signal: 9, Kept: true})
		h.see(6, nil)
	})
}
