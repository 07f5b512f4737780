package agent_test

import (
	"bytes"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

const (
	// prompt is the bound for an answer beside a flood: the protocol wants 100 ms
	// on a machine of its own, and the race detector and other tests share this one.
	prompt = 2 * time.Second

	// bounded is the heap that the agent may grow by under any load: the input
	// budget, the outboxes together, a maximal frame on its way in, and as much
	// again as the collector leaves behind.
	bounded = 64 << 20
)

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Input that nobody reads delays nobody and stays out of memory.
func TestStdinFloodDelaysNobody(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		before := heap()
		for id := range uint32(3) {
			h.send(id+1, &wire.ExecRequest{Cmd: "sleep", Args: []string{"1000"}})
		}
		chunk := bytes.Repeat([]byte("x"), 3<<20)
		for range 8 {
			for id := range uint32(3) {
				h.send(id+1, &wire.ExecStdin{Data: chunk})
			}
			if took := h.ping(); took > prompt {
				t.Errorf("a ping after %d bytes took %v", len(chunk), took)
			}
		}
		if got := h.say("echo beside"); got != "beside\n" {
			t.Errorf("got %q", got)
		}
		if grown := heap() - before; grown > bounded {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		for id := range uint32(3) {
			h.send(id+1, &wire.ExecSignal{Signal: 9})
			if r := h.collect(id + 1); r.code != -1 || len(r.stdinErrors) > 1 {
				t.Errorf("got code %d, %d stdin errors", r.code, len(r.stdinErrors))
			}
		}
	})
}

// More than the limit of one command's input ends that input, is said once, and
// is nobody else's matter.
func TestStdinOverflow(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(1, sh("sleep 1000"))
		// Without a place on disk only memory is left.
		remount(t, syscall.MS_RDONLY)
		chunk := bytes.Repeat([]byte("x"), 3<<20)
		for range 4 {
			h.send(1, &wire.ExecStdin{Data: chunk})
		}
		h.ping()
		h.send(1, &wire.ExecSignal{Signal: 15})
		r := h.collect(1)
		// One for the overflow, one for the write that the end interrupts.
		if n := len(r.stdinErrors); n < 1 || n > 2 || r.stdinErrors[0].Errno == nil {
			t.Errorf("%d stdin errors, the first is %+v", n, r.stdinErrors)
		}
		remount(t, 0)
	})
}

func remount(t *testing.T, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// A host that does not read costs a bounded amount, and loses nothing.
func TestPausedHost(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		before := heap()
		h.hold(true)
		const commands, size = 4, 8 << 20
		for id := range uint32(commands) {
			h.send(id+1, sh("yes 0123456789 | head -c 8388608"))
		}
		h.send(9, &wire.ExecRequest{Cmd: "yes"})
		waitStuck(t)
		if grown := heap() - before; grown > bounded/2 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		h.send(9, &wire.ExecSignal{Signal: 9})
		h.hold(false)
		line := []byte("0123456789\n")
		want := bytes.Repeat(line, size/len(line)+1)[:size]
		for id := range uint32(commands) {
			if r := h.collect(id + 1); !bytes.Equal(r.stdout, want) {
				t.Errorf("command %d: %d bytes, want %d", id, len(r.stdout), size)
			}
		}
		waitExit(h, 9, -1)
	})
}

// waitStuck waits until no process of the machine has run for a while: every
// writer waits for room.
func waitStuck(t *testing.T) {
	t.Helper()
	last, quiet := "", 0
	eventually(t, "all commands wait", func() bool {
		now := cpuTimes(t)
		if now != last {
			last, quiet = now, 0
			return false
		}
		quiet++
		return quiet > 50 // Of 2 ms each.
	})
}

// Many short commands beside output that is not read: all of them are answered
// once the host reads again, in bounded memory.
func TestSessionsAreLimited(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		before := heap()
		const most, more = 1024, 40
		for id := range uint32(most + more) {
			h.send(id+1, &wire.ExecRequest{Cmd: "sleep", Args: []string{"1000"}})
		}
		if grown := heap() - before; grown > 2*bounded {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		var refused int
		for id := uint32(most) + 1; id <= most+more; id++ {
			f := h.collect(id).failed
			if f == nil || f.Kind != wire.FailureResourceLimit || f.Errno == nil || *f.Errno != 11 || deref(f.ErrnoName) != "EAGAIN" {
				t.Fatalf("id %d: %+v", id, f)
			}
			refused++
		}
		for id := range uint32(most) {
			h.send(id+1, &wire.ExecSignal{Signal: 9})
		}
		for id := range uint32(most) {
			if r := h.collect(id + 1); r.failed != nil || r.code != -1 {
				t.Fatalf("id %d: %+v", id+1, r)
			}
		}
		if got := h.say("echo again"); got != "again\n" || refused != more {
			t.Errorf("got %q after %d refusals", got, refused)
		}
	})
}

// Answers to a host that lags wait for it.
//
//holds:wire 7: 30,000 pings that a host does not read for 5 s are all answered; through a relay other clients do not notice
func TestAnswersWait(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		const pings = 100_000 // 2.8 MiB of answers.
		h.hold(true)
		h.write(bytes.Repeat(bytesOf(t, speaks, 1, &wire.Ping{}), pings))
		h.hold(false)
		h.ping()
		if n := h.kept(1, 2); n != pings {
			t.Errorf("%d of %d pings were answered", n, pings)
		}
	})
}
