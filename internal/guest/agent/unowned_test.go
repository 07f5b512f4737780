package agent_test

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Data on ids that no client owns gets nothing but core.error: a host of generation
// 8 or later gives the link up for any other frame there.
func TestDataOfNobody(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		for _, id := range []uint32{0, frame.Step, frame.Slots * frame.Step, 0xffffffff} {
			h.tell(id, &wire.FSData{Data: []byte("x")})
			h.tell(id, &wire.TCPData{Data: []byte("x")})
			h.tell(id, &wire.ExecStdin{Data: []byte("x")}) // Input for an unknown session is never answered.
			h.record(id, wire.BulkFS, 0, []byte("x"))
			h.record(id, wire.BulkTCP, 0, []byte("x"))
			h.ping()
			for range 4 {
				m, ok := h.next(id).Message.(*wire.ProtocolError)
				if !ok || m.Kind != wire.ErrorInvalidSession {
					t.Errorf("id %d: %+v", id, m)
				}
			}
			if n := h.kept(id, id+1); n != 0 {
				t.Errorf("id %d: %d more frames", id, n)
			}
		}
	})
}

// Frames that nobody can be told about fill the console no further than some lines.
func TestComplaintsAreCounted(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		console := os.Stderr
		os.Stderr = w
		for range 1000 {
			h.write(raw(t, 9, 0, envelope(1, "core.unheard.of", 0xa0)))
		}
		h.ping()
		os.Stderr = console
		_ = w.Close()
		said, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(said), "\n"); n != 101 {
			t.Errorf("%d lines: %.200s", n, said)
		}
	})
}
