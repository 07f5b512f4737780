package agent_test

import (
	"bytes"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Records on the second port are counted with the 16 bytes before them, in both directions.
//
//holds:wire 15: bytes of the second port, and their total in the answer to a freeze
func TestFreezeWithSecondPort(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwinOf(t, nine)
		c := &counter{host: h.host}
		c.freezer()
		const lease, ahead = 41, 16
		c.sent.ControlBytes, c.sent.ControlFrames = 2*lease, 2
		c.settled(wire.TransportCounters{})
		data := pattern(3<<20 + 10)
		handle := uint64(0)
		c.put(1, &wire.FSRequest{Op: &wire.OpOpenFile{Path: "/f", Options: wire.OpenOptions{Read: true, Write: true, Create: true}}})
		if m, ok := want[*wire.FSResponse](c.host, 1).Data.(*wire.ResultHandle); ok {
			handle = m.Handle
		}
		length := uint64(len(data))
		c.put(2, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle, Len: &length}, Bulk: offer(largest, 0)})
		want[*wire.BulkAccepted](c.host, 2)
		for at := 0; at < len(data); at += 1 << 20 {
			piece := data[at:min(at+1<<20, len(data))]
			h.put(h.of[0], 2, wire.BulkFS, uint64(at), piece)
			c.count(wire.TypeFSData, ahead+frame.HeaderSize+12+len(piece))
		}
		c.put(2, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: length})
		if m := among[*wire.FSResponse](h, 2); !m.OK {
			t.Fatalf("write: %v", *m.Error)
		}
		c.settled(wire.TransportCounters{})
		c.put(3, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}, Bulk: offer(largest, widest)})
		among[*wire.BulkAccepted](h, 3)
		var back bytes.Buffer
		h.gather(3, wire.BulkFS, widest, &back)
		if !bytes.Equal(back.Bytes(), data) {
			t.Errorf("%d bytes came back", back.Len())
		}
		c.freeze("s")
		if m := c.frozen("s"); m.GuestBulkBytesTarget != h.heard.Load() {
			t.Errorf("%d bytes on the second port, and the agent says %d", h.heard.Load(), m.GuestBulkBytesTarget)
		}
		h.put(h.of[0], 3, wire.BulkFS, 0, []byte("x")) // It crosses the cut.
		if e := among[*wire.ProtocolError](h, 3); e.Message != "raw bulk input crossed the frozen transport cut" {
			t.Errorf("%+v", e)
		}
		c.thaw("s", wire.ThawContinue)
		c.thawed("s")
	})
}
