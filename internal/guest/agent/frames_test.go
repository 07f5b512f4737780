package agent_test

import (
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

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
		h.send(1, &wire.ExecSignal{Signal: 9}) // The session belongs to no client any more.
		h.pingOther(other + 7)
		if after := h.kept(1, 0x01ffffff); after != before {
			t.Errorf("%d frames of the client that has gone", after-before)
		}
		// A shell that has said so may have its last command still before it.
		const counted = "n=0; until [ $(pidof sleep | wc -w) -ge 2 ] || [ $((n+=1)) -gt 1000 ]; do usleep 10000; done; pidof sleep | wc -w"
		if r := h.say2(other+1, counted); r != "2\n" {
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
