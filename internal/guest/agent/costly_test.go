package agent_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Data in a frame that is long for something else costs no more than data: what
// waits is what was counted.
func TestStuffedData(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		before := heap()
		h.send(1, sh("sleep 1000"))
		const frames, size = 60, 2 << 20
		for i := range frames {
			h.write(stuffed(t, 1, i%2 == 0, size))
		}
		h.ping()
		if grown := heap() - before; grown > bounded/2 {
			t.Errorf("the heap grew by %d MiB for %d KiB of input", grown>>20, frames*4)
		}
		h.send(1, &wire.ExecSignal{Signal: 9})
		waitExit(h, 1, -1)
	})
}

// stuffed is a frame of size bytes with 4 KiB of input, and the rest in a field that
// nobody knows: of the payload, or of the envelope.
func stuffed(t *testing.T, id uint32, payload bool, size int) []byte {
	t.Helper()
	rest := bytes.Repeat([]byte{0}, size)
	input := bytes.Repeat([]byte("x"), 4<<10)
	p := append([]byte("\xa1\x64data\x59\x10\x00"), input...)
	body := "\xa3\x61v\x07\x61t\x6fcore.exec.stdin"
	if payload {
		p = append(p, rest...) // Trailing bytes are passed over.
	} else {
		body = "\xa4\x61v\x07\x61t\x6fcore.exec.stdin\x61x\x5a" + string(be32(len(rest))) + string(rest)
	}
	body += "\x61p\x5a" + string(be32(len(p))) + string(p)
	b, err := frame.Append(nil, frame.Frame{ID: id, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func be32(n int) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

// Refusals repeat what they refuse, but not all of it: a thousand may wait for a
// host that does not read.
func TestLongRefusals(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.hold(true)
		before := heap()
		const requests = 40
		long := strings.Repeat("x", 2<<20)
		for id := range uint32(requests) {
			req := &wire.ExecRequest{Cmd: long}
			switch id % 3 {
			case 1:
				req = &wire.ExecRequest{Cmd: "true", Cwd: &long}
			case 2:
				req = &wire.ExecRequest{Cmd: "true", User: &long}
			}
			h.send(id+1, req)
		}
		h.write(bytesOf(t, speaks, 1000, &wire.Ping{}))
		waitStuck(t)
		if grown := heap() - before; grown > bounded/2 {
			t.Errorf("the heap grew by %d MiB for %d refusals", grown>>20, requests)
		}
		h.hold(false)
		for id := range uint32(requests) {
			if r := h.collect(id + 1); r.failed == nil {
				t.Errorf("command %d was not refused", id)
			}
		}
	})
}

// Requests that wait for their start share a bound: of commands behind one that
// hangs the large ones are refused before they cost the memory of all.
func TestLongRequestsWait(t *testing.T) {
	nstest.Run(t, func() {
		deadMount(t)
		h := newHost(t, config{})
		for id := range uint32(2) { // One for the spawner, one for the caller's thread.
			h.send(id+1, &wire.ExecRequest{Cmd: "/mnt/program"})
		}
		before := heap()
		const requests = 100
		long := strings.Repeat("x", 1<<20)
		for id := range uint32(requests) {
			h.send(id+3, &wire.ExecRequest{Cmd: "true", Env: []string{"A=" + long}})
		}
		var refused int
		eventually(t, "most are refused", func() bool {
			refused = h.kept(3, requests+3)
			return refused > requests/2
		})
		if grown := heap() - before; grown > bounded {
			t.Errorf("the heap grew by %d MiB for %d requests", grown>>20, requests)
		}
		f := h.collect(requests + 2).failed
		if f == nil || f.Kind != wire.FailureResourceLimit || deref(f.ErrnoName) != "EAGAIN" {
			t.Errorf("refused by %+v", f)
		}
		h.send(requests+3, &wire.ExecRequest{Cmd: "true"}) // A small one waits.
		h.ping()
		if h.kept(requests+3, requests+4) != 0 {
			t.Error("a small request is refused")
		}
	})
}
