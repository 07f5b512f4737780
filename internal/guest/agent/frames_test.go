package agent_test

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

var seed = flag.Uint64("seed", 0, "seed of the random frames; 0 takes another each time")

// raw is a frame of any body.
func raw(t *testing.T, id uint32, flags frame.Flags, body []byte) []byte {
	t.Helper()
	b, err := frame.Append(nil, frame.Frame{ID: id, Flags: flags, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// envelope is a body with any type and payload.
func envelope(v byte, name string, payload ...byte) []byte {
	b := append([]byte{0xa3, 0x61, 'v', 0x18, v, 0x61, 't', 0x78, byte(len(name))}, name...)
	return append(append(b, 0x61, 'p', 0x58, byte(len(payload))), payload...)
}

// What the agent says to a frame that it cannot act on.
func TestWrongFrames(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(1, sh("read line; echo still $line"))
		h.next(1)
		for _, tt := range []struct {
			name  string
			flags frame.Flags
			body  []byte
			kind  wire.ErrorKind // "" is no answer.
			text  string
		}{
			{"wrong flags", 1, envelope(5, "core.exec.signal", 0xa1, 0x66, 's', 'i', 'g', 'n', 'a', 'l', 9), wire.ErrorInvalidFlags, "invalid flags for core.exec.signal: got 1, expected 0"},
			{"missing flag", 0, envelope(7, "core.exec.request", 0xa1, 0x63, 'c', 'm', 'd', 0x61, 'x'), wire.ErrorInvalidFlags, "invalid flags for core.exec.request: got 0, expected 2"},
			{"missing flag of an old client", 0, envelope(4, "core.exec.resize", 0xa0), "", ""},
			{"shutdown without its flag", 0, envelope(255, "core.shutdown", 0xf6), wire.ErrorInvalidFlags, "invalid flags for core.shutdown: got 0, expected 4"},
			{"bad payload", 0, envelope(7, "core.exec.signal", 0xa0), wire.ErrorInvalidPayload, "decode payload for core.exec.signal: "},
			{"bad payload of an old client", 0, envelope(4, "core.exec.signal", 0xa0), "", ""},
			{"bad input", 0, envelope(7, "core.exec.stdin", 0xa0), wire.ErrorInvalidPayload, "decode payload for core.exec.stdin: "},
			{"empty payload", 0, envelope(7, "core.ping"), wire.ErrorInvalidPayload, "decode payload for core.ping: "},
			{"unknown type", 0, envelope(7, "core.unheard.of", 0xa0), wire.ErrorUnsupportedType, "core.unheard.of"},
			{"unknown type of an old client", 0, envelope(1, "core.unheard.of", 0xa0), "", ""},
			{"type of a later generation", 0, envelope(9, "core.root_disk.prepare", 0xa0), "", ""},
			{"empty body", 0, nil, wire.ErrorMalformed, ""},
			{"garbage", 0, []byte{0xff, 0xff}, wire.ErrorMalformed, ""},
			{"garbage with a generation", 0, []byte{0xa1, 0x61, 'v', 4}, "", ""},
			{"bulk record", frame.Bulk, []byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'x'}, wire.ErrorMalformed, ""},
			{"lease record", 0, []byte("MSBL\x01\x01"), wire.ErrorMalformed, ""},
			{"a guest's message", 0, envelope(7, "core.exec.stdout", 0xa1, 0x64, 'd', 'a', 't', 'a', 0x40), "", ""},
			{"a late ack", 0, envelope(7, "core.init.ack", 0xa0), "", ""},
			{"a late bootstrap", 0, envelope(7, "core.bootstrap", 0xa0), "", ""},
		} {
			t.Run(tt.name, func(t *testing.T) {
				h.t = t
				h.write(raw(t, 9, tt.flags, tt.body))
				h.ping()
				n := h.kept(9, 10)
				if tt.kind == "" {
					if n > 0 && tt.name != "type of a later generation" {
						t.Errorf("answered with %+v", h.next(9).Message)
					} else if n > 0 {
						h.next(9)
					}
					return
				}
				if n != 1 {
					t.Fatalf("%d answers, want one", n)
				}
				m, ok := h.next(9).Message.(*wire.ProtocolError)
				if !ok || m.Kind != tt.kind || !strings.Contains(m.Message, tt.text) {
					t.Errorf("got %+v, want %s %q", m, tt.kind, tt.text)
				}
				if tt.text != "" && !strings.Contains(tt.text, string(m.OffendingType)) {
					t.Errorf("offending type %q", m.OffendingType)
				}
			})
		}
		h.t = t
		h.send(1, &wire.ExecStdin{Data: []byte("here\n")})
		waitFor(h, 1, "still here\n")
		waitExit(h, 1, 0)
	})
}

// Nothing is opened on the ids that belong to nobody; the machine answers there.
func TestIdsOfNobody(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		for _, id := range []uint32{0, frame.Step, 127 * frame.Step, 0xffffffff} {
			for _, m := range []wire.Message{
				&wire.ExecRequest{Cmd: "true"}, &wire.FSRequest{Op: &wire.OpOpenDir{Path: "/"}}, &wire.TCPConnect{Host: "localhost", Port: 1},
			} {
				h.send(id, m)
				if e, ok := h.next(id).Message.(*wire.ProtocolError); !ok || e.Kind != wire.ErrorInvalidSession || e.OffendingType != m.Type() {
					t.Errorf("%s on id %#x: %+v", m.Type(), id, e)
				}
			}
			h.send(id, &wire.Ping{})
			if _, ok := h.next(id).Message.(*wire.Pong); !ok {
				t.Errorf("no answer to a ping on id %#x", id)
			}
		}
	})
}

// Clients of any generation are served alike.
func TestAnyGeneration(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		for _, v := range []wire.Generation{0, 1, 4, 5, 8, 9, 255} {
			for _, id := range []uint32{1, 0x01fffffe, 0x02000000, 0xfe000000} {
				h.write(bytesOf(t, v, id, &wire.ExecRequest{Cmd: "echo", Args: []string{"hi"}}))
				if r := h.collect(id); string(r.stdout) != "hi\n" {
					t.Errorf("generation %d, id %#x: %+v", v, id, r)
				}
			}
		}
	})
}

func TestActivity(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		touch := func() uint64 {
			h.send(3, &wire.Touch{})
			m, ok := h.next(3).Message.(*wire.Touched)
			if !ok {
				t.Fatal("a touch was answered with something else")
			}
			return m.ActivitySeq
		}
		for _, tt := range []struct {
			name string
			do   func()
			more uint64
		}{
			{"nothing", func() {}, 1},
			{"ping", func() { h.ping() }, 1},
			{"wrong flags", func() { h.write(raw(t, 4, 1, envelope(7, "core.ping", 0xa0))); h.next(4) }, 1},
			{"a command", func() { h.run(&wire.ExecRequest{Cmd: "true"}) }, 4},
			{"an ignored signal", func() { h.send(4, &wire.ExecSignal{Signal: 9}) }, 2},
		} {
			before := touch()
			tt.do()
			if more := touch() - before; more != tt.more {
				t.Errorf("%s: %d more, want %d", tt.name, more, tt.more)
			}
		}
	})
}

func TestDuplicateID(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(1, sh("read line; echo $line; exit 7"))
		h.next(1)
		h.send(1, sh("echo second"))
		if m, ok := h.next(1).Message.(*wire.ExecFailed); !ok || m.Kind != wire.FailureOther {
			t.Errorf("got %+v", m)
		}
		h.send(1, &wire.ExecStdin{Data: []byte("first\n")})
		waitFor(h, 1, "first\n")
		waitExit(h, 1, 7)
		h.send(1, sh("exit 8"))
		if r := h.collect(1); r.code != 8 {
			t.Errorf("the id is not free after the end: %+v", r)
		}
		h.ping()
		if n := h.kept(1, 2); n != 0 {
			t.Errorf("%d frames behind the terminal one", n)
		}
	})
}

// A client that is gone is told nothing more; its commands go on, and those of
// others are not touched.
func TestClientDisconnected(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		const other = 0x02000000
		h.send(1, sh("trap '' PIPE; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; echo done > /tmp/done; sleep 1000"))
		h.send(2, sh("sleep 1000"))
		h.send(other, sh("read x; echo mine"))
		h.next(1)
		h.next(2)
		h.next(1)
		h.send(0, &wire.ClientDisconnected{IDStart: 1, IDEndExclusive: 0x01ffffff})
		h.pingOther(other + 7)
		before := h.kept(1, 0x01ffffff)
		h.say2(other+1, "while [ ! -e /tmp/done ]; do sleep 0.01; done")
		h.send(1, &wire.ExecSignal{Signal: 9}) // It is nobody's any more.
		h.pingOther(other + 7)
		if after := h.kept(1, 0x01ffffff); after != before {
			t.Errorf("%d frames of the client that has gone", after-before)
		}
		if r := h.say2(other+1, "pidof sleep | wc -w"); r != "2\n" {
			t.Errorf("%q commands go on, want 2", r)
		}
		h.send(other, &wire.ExecStdin{Data: []byte("\n")})
		if r := h.collect(other); string(r.stdout) != "mine\n" {
			t.Errorf("the other client's command: %+v", r)
		}
		h.drop(1, 0x01ffffff)
		h.send(1, sh("echo new"))
		if r := h.collect(1); string(r.stdout) != "new\n" {
			t.Errorf("the next client's command: %+v", r)
		}
	})
}

func (h *host) pingOther(id uint32) {
	h.t.Helper()
	h.send(id, &wire.Ping{})
	h.next(id)
}

// say2 is say on an id of the caller's choice.
func (h *host) say2(id uint32, script string) string {
	h.t.Helper()
	h.send(id, sh(script))
	return string(h.collect(id).stdout)
}

// drop forgets the frames of the ids in [from, to).
func (h *host) drop(from, to uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.frames[:0]
	for _, f := range h.frames {
		if f.ID < from || f.ID >= to {
			kept = append(kept, f)
		}
	}
	h.frames = kept
}

// Every byte alone, and many frames in one write, are the same frames.
func TestAnySplit(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		var all []byte
		const commands = 20
		for id := range uint32(commands) {
			all = append(all, bytesOf(t, 7, id+1, &wire.ExecRequest{Cmd: "cat"})...)
			all = append(all, bytesOf(t, 7, id+1, &wire.ExecStdin{Data: []byte("text")})...)
			all = append(all, bytesOf(t, 7, id+1, &wire.ExecStdin{})...)
		}
		for _, piece := range []int{1, 3, len(all)} {
			for b := all; len(b) > 0; {
				n := min(piece, len(b))
				h.write(b[:n])
				b = b[n:]
			}
			for id := range uint32(commands) {
				if r := h.collect(id + 1); string(r.stdout) != "text" || r.code != 0 {
					t.Errorf("pieces of %d, id %d: %+v", piece, id+1, r)
				}
			}
		}
	})
}

// Whatever comes in frames of a valid length, what was opened before still works.
func TestRandomFrames(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		from := *seed
		if from == 0 {
			from = uint64(time.Now().UnixNano())
		}
		t.Logf("repeat with -seed=%d", from)
		random := rand.New(rand.NewPCG(from, 0))
		h := newHost(t, config{})
		const mine = 0xfe000000
		h.send(mine, sh("read line; echo still $line"))
		h.next(mine)
		const frames, burst = 20_000, 500
		patterns := patterns(t)
		for range frames / burst {
			for range burst {
				h.write(mutate(random, patterns))
			}
			h.ping()
			h.drop(0, mine)
		}
		h.send(mine, &wire.ExecStdin{Data: []byte("here\n")})
		waitFor(h, mine, "still here\n")
		waitExit(h, mine, 0)
	})
}

// patterns are the bodies of real messages, with their flags in front. Commands
// among them cannot do harm, and a shutdown would be an end and no fault.
func patterns(t *testing.T) (all [][]byte) {
	t.Helper()
	for _, m := range []wire.Message{
		&wire.ExecRequest{Cmd: "true"}, &wire.ExecRequest{Cmd: "cat", TTY: true}, &wire.ExecStdin{Data: []byte("data")},
		&wire.ExecStdin{}, &wire.ExecSignal{Signal: 9}, &wire.ExecResize{Rows: 3, Cols: 4}, &wire.Ping{}, &wire.Touch{},
		&wire.ClientDisconnected{IDStart: 1, IDEndExclusive: 9}, &wire.TCPConnect{Host: "localhost", Port: 1},
		&wire.Bootstrap{}, &wire.InitAck{}, &wire.ExecExited{}, &wire.ClockSync{UnixTimeNanos: 1 << 60},
		&wire.TCPData{Data: []byte("data")}, &wire.TCPEOF{}, &wire.TCPClose{}, &wire.FSData{Data: []byte("data")}, &wire.FSData{Data: []byte{}},
		&wire.FSRequest{Op: &wire.OpStat{Path: "/tmp"}}, &wire.FSRequest{Op: &wire.OpList{Path: "/proc"}},
		&wire.FSRequest{Op: &wire.OpOpenFile{Path: "/tmp/f", Options: wire.OpenOptions{Read: true, Write: true, Create: true}}},
		&wire.FSRequest{Op: &wire.OpOpenDir{Path: "/tmp"}}, &wire.FSRequest{Op: &wire.OpCloseHandle{Handle: 3}},
		&wire.FSRequest{Op: &wire.OpRead{Handle: 1}}, &wire.FSRequest{Op: &wire.OpWrite{Handle: 1}},
		&wire.FSRequest{Op: &wire.OpReadDir{Handle: 2}}, &wire.FSRequest{Op: &wire.OpFStat{Handle: 1}},
		&wire.FSRequest{Op: &wire.OpFSetStat{Handle: 1, Attrs: wire.FSAttrs{Size: new(uint64(9))}}},
	} {
		all = append(all, bytesOf(t, speaks, 0, m)[8:])
	}
	return all
}

// mutate makes a frame on one of a few ids out of a pattern or of noise.
func mutate(random *rand.Rand, patterns [][]byte) []byte {
	body := append([]byte{}, patterns[random.IntN(len(patterns))]...)
	switch random.IntN(4) {
	case 0: // As it is.
	case 1:
		for range 1 + random.IntN(4) {
			body[random.IntN(len(body))] ^= 1 << random.IntN(8)
		}
	case 2:
		body = body[:1+random.IntN(len(body))]
	default:
		for i := range body {
			body[i] = byte(random.Uint32())
		}
	}
	b, err := frame.Append(nil, frame.Frame{ID: uint32(random.IntN(40)), Flags: frame.Flags(body[0]), Body: body[1:]})
	if err != nil {
		return nil
	}
	return b
}
