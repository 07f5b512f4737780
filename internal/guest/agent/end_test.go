package agent_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// How the loop ends, and what is no end.
//
//holds:boot 26: shutdown with null, `{}`, nothing
//holds:wire 2: a bad length ends only what cannot be saved; the reason once
func TestEnds(t *testing.T) {
	shutdown := func(v wire.Generation, flags frame.Flags, payload ...byte) []byte {
		body := append([]byte{0xa3, 0x61, 'v', byte(v), 0x61, 't', 0x6d}, "core.shutdown\x61p"...)
		body = append(append(body, 0x40|byte(len(payload))), payload...)
		b, err := frame.Append(nil, frame.Frame{Flags: flags, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		send []byte
		end  agent.End
		err  error
	}{
		{"closed", nil, agent.Closed, nil},
		{"closed in a frame", []byte{0, 0, 0, 9}, 0, io.ErrUnexpectedEOF},
		{"shutdown", shutdown(7, 4, 0xf6), agent.Shutdown, nil},
		{"shutdown with an empty payload", shutdown(7, 4), agent.Shutdown, nil},
		{"shutdown with a map", shutdown(7, 4, 0xa0), agent.Shutdown, nil},
		{"shutdown with garbage", shutdown(7, 4, 0xff, 0xff), agent.Shutdown, nil},
		{"shutdown of generation 1 without the flag", shutdown(1, 0, 0xf6), agent.Shutdown, nil},
		{"shutdown without the flag", shutdown(7, 0, 0xf6), agent.Closed, nil},
		{"too short a length", []byte{0, 0, 0, 4}, 0, new(frame.LengthError)},
		{"too long a length", []byte{0, 0x40, 0, 1}, 0, new(frame.LengthError)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, ours := link(t)
			h := attach(t, ours)
			h.serveBare(agent.Open(port), port, speaks)
			h.next(0)
			h.write(tt.send)
			if tt.end == agent.Closed || errors.Is(tt.err, io.ErrUnexpectedEOF) {
				if err := closeWrite(ours); err != nil {
					t.Fatal(err)
				}
			}
			s := h.wait()
			var length *frame.LengthError
			if s.end != tt.end || (tt.err == nil) != (s.err == nil) || (errors.As(tt.err, &length) && !errors.As(s.err, &length)) {
				t.Errorf("ended with %d and %v, want %d and %v", s.end, s.err, tt.end, tt.err)
			}
		})
	}
}

// A mute port takes nothing, and is heard all the same.
type mute struct {
	agent.Port
	why error
}

func (m mute) Write([]byte) (int, error) { return 0, m.why }

// A port that cannot be written to ends the loop with the reason, unless that is the
// host's end, which reading finds.
func TestWriteFails(t *testing.T) {
	for _, why := range []error{syscall.EIO, syscall.EPIPE} {
		t.Run(why.Error(), func(t *testing.T) {
			port, ours := link(t)
			h := attach(t, ours)
			h.serveBare(agent.Open(mute{port, os.NewSyscallError("write", why)}), port, speaks)
			want := why
			if errors.Is(why, syscall.EPIPE) {
				want = nil
				if err := closeWrite(ours); err != nil {
					t.Fatal(err)
				}
			}
			if s := h.wait(); !errors.Is(s.err, want) || (want == nil) != (s.end == agent.Closed) {
				t.Errorf("ended with %d and %v, want %v", s.end, s.err, want)
			}
		})
	}
}

// The output of a command that is told to end still reaches the host; a command
// that does not end does not hold the machine.
func TestFinish(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(1, sh("trap 'echo last words; exit 3' TERM; echo ready; while :; do read -t 1 x </dev/zero; done"))
		waitFor(h, 1, "ready\n")
		h.send(0, &wire.Shutdown{})
		if s := h.wait(); s.end != agent.Shutdown || s.err != nil {
			t.Fatalf("ended with %+v", s)
		}
		h.agent.Finish(patience)
		if r := h.tail(1); r != "last words\n exit 3" {
			t.Errorf("got %q", r)
		}
	})
}

func TestFinishHonoursGrace(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		h.send(1, sh("trap '' TERM; echo ready; while :; do sleep 1; done"))
		waitFor(h, 1, "ready\n")
		h.send(0, &wire.Shutdown{})
		h.wait()
		start := time.Now()
		h.agent.Finish(100 * time.Millisecond)
		if took := time.Since(start); took > patience/2 {
			t.Errorf("took %v", took)
		}
	})
}

// The greeting of both kinds of host, with frames after it in the same burst
// and with every byte alone.
//
//holds:boot 5: message and ack in one write; a newer generation with unknown keys
//holds:wire 1: what comes with the ack is neither lost nor late
//holds:wire 7: `core.ready` once, its fields
func TestGreeting(t *testing.T) {
	boot := bytesOf(t, 7, 0, &wire.Bootstrap{})
	ack := bytesOf(t, 7, 0, &wire.InitAck{})
	ping := bytesOf(t, 7, 5, &wire.Ping{})
	for _, tt := range []struct {
		name  string
		burst []byte
		piece int
	}{
		{"in one burst", append(append(append([]byte{}, boot...), ack...), ping...), 1 << 20},
		{"byte by byte", append(append(append([]byte{}, boot...), ack...), ping...), 1},
		{"in odd pieces", append(append(append([]byte{}, boot...), ack...), ping...), 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, ours := link(t)
			h := attach(t, ours)
			a := agent.Open(port)
			go func() {
				for b := tt.burst; len(b) > 0; {
					n := min(tt.piece, len(b))
					if _, err := ours.Write(b[:n]); err != nil {
						t.Error(err)
						return
					}
					b = b[n:]
				}
			}()
			if _, err := a.Bootstrap(); err != nil {
				t.Fatal(err)
			}
			if err := a.Greet(7, 1000, 2000); err != nil {
				t.Fatal(err)
			}
			h.serveBare(a, port, speaks)
			m, ok := h.next(0).Message.(*wire.InitResolved)
			if !ok || m.DefaultUser != (wire.User{UID: 1000, GID: 2000}) {
				t.Errorf("first frame %+v", m)
			}
			ready, ok := h.next(0).Message.(*wire.Ready)
			if !ok || ready.ReadyTimeNS < ready.BootTimeNS || ready.AgentVersion != "test" {
				t.Errorf("second frame %+v", ready)
			}
			if _, ok := h.next(5).Message.(*wire.Pong); !ok {
				t.Error("the ping after the greeting was not answered")
			}
		})
	}
}

func TestGreetingIsRefused(t *testing.T) {
	text := func(m wire.Message, v wire.Generation, id uint32) []byte { return bytesOf(t, v, id, m) }
	flagged := text(&wire.Bootstrap{}, 7, 0)
	flagged[8] = 1
	for _, tt := range []struct {
		name  string
		burst []byte
		want  string
	}{
		{"nothing", nil, "closed while waiting for core.bootstrap"},
		{"half a frame", []byte{0, 0, 0}, "unexpected EOF"},
		{"other first", text(&wire.Ping{}, 7, 0), "want core.bootstrap"},
		{"an id", text(&wire.Bootstrap{}, 7, 1), "id 1"},
		{"flags", flagged, "flags terminal"},
		{"old generation", text(&wire.Bootstrap{}, 6, 0), "requires protocol generation 7 or newer, got 6"},
		{"garbage", []byte{0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff}, "decode envelope"},
		{"bad length", []byte{0, 0, 0, 1}, "length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, ours := link(t)
			if _, err := ours.Write(tt.burst); err != nil {
				t.Fatal(err)
			}
			if err := ours.Close(); err != nil {
				t.Fatal(err)
			}
			_, err := agent.Open(port).Bootstrap()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err := port.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// A host that has sent core.bootstrap, be it a wrong one, is told why the boot has
// failed; one that may be of a generation without core.error hears nothing.
func TestFail(t *testing.T) {
	wrong, err := frame.Append(nil, frame.Frame{Body: []byte("\xa3\x61v\x07\x61t\x6ecore.bootstrap\x61p\x41\xff")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		first []byte
		told  bool
	}{
		{"by variables", nil, false},
		{"by message", bytesOf(t, 7, 0, &wire.Bootstrap{}), true},
		{"by a newer message", bytesOf(t, 9, 0, &wire.Bootstrap{}), true},
		{"by a wrong message", wrong, true},
		{"by an old message", bytesOf(t, 6, 0, &wire.Bootstrap{}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, ours := link(t)
			h := attach(t, ours)
			a := agent.Open(port)
			if tt.first != nil {
				h.write(tt.first)
				_, _ = a.Bootstrap() // That it refuses some is TestGreetingIsRefused's.
			}
			if err := a.Fail(wire.InitUserNotFound, "no \xff user"); err != nil {
				t.Fatal(err)
			}
			if err := port.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the port ends", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.closed })
			if !tt.told {
				if n := h.kept(0, 1<<32-1); n != 0 {
					t.Errorf("got %d frames", n)
				}
				return
			}
			got, ok := h.next(0).Message.(*wire.ProtocolError)
			want := wire.ProtocolError{Kind: wire.ErrorInitialization, Message: "no \uFFFD user", InitFailure: wire.InitUserNotFound}
			if !ok || *got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// Hosts of up to generation 7 throw away what follows core.ready in one burst.
//
//holds:boot 3: one `core.ready`
func TestSilenceAfterReady(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		if err := h.port.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the wait ends", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.closed // By the deadline.
		})
		if n := h.kept(0, 1<<32-1); n != 0 {
			t.Errorf("%d frames after core.ready", n)
		}
	})
}
