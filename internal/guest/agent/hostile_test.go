package agent_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Records, credits and finishes by chance end the flows that they are for and
// nothing else: an untouched neighbour goes on, and no window is lost.
//
//holds:wire 12: every slip ends one flow
func TestHostileRecords(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		if err := os.WriteFile("/f", pattern(64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		reading := h.openFile("/f", wire.OpenOptions{Read: true})
		writing := h.openFile("/g", wire.OpenOptions{Write: true, Create: true})
		const neighbour, from, to = 3, 100, 108
		h.tell(neighbour, &wire.FSRequest{Op: &wire.OpWrite{Handle: writing}, Bulk: offer(smallest, 0)})
		want[*wire.BulkAccepted](h, neighbour)
		const seed = 8
		by := rand.New(rand.NewPCG(seed, seed))
		for range 3000 {
			id := uint32(from + by.IntN(to-from))
			h.write(hostile(t, by, id, reading, writing))
		}
		h.ping()
		h.record(neighbour, wire.BulkFS, 0, []byte("untouched"))
		h.tell(neighbour, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: 9})
		if r := h.rest(neighbour); !r.OK {
			t.Errorf("the neighbour ended with %v", *r.Error)
		}
		start, end := frame.SlotRange(0)
		h.tell(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		eventually(t, "the whole window again", func() bool {
			const id = 0x02000000 // Another client's.
			handle := h.openOn(id, &wire.OpOpenFile{Path: "/g", Options: wire.OpenOptions{Write: true}})
			h.tell(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(largest, 0)})
			m := want[*wire.BulkAccepted](h, id)
			h.tell(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest})
			h.rest(id)
			return m.HostToGuestCreditLimit == 8<<20
		})
	})
}

// hostile is a frame about a flow that may or may not be there.
func hostile(t *testing.T, by *rand.Rand, id uint32, reading, writing uint64) []byte {
	t.Helper()
	small := func() uint64 { return by.Uint64N(40) }
	kind, flow := wire.BulkKind(1+by.IntN(2)), wire.BulkFlow(1+by.IntN(2))
	switch by.IntN(8) {
	case 0:
		return bytesOf(t, eight, id, &wire.FSRequest{Op: &wire.OpRead{Handle: reading}, Bulk: offer(smallest, 1+small())})
	case 1, 2:
		return bytesOf(t, eight, id, &wire.FSRequest{Op: &wire.OpWrite{Handle: writing}, Bulk: offer(smallest, 0)})
	case 3:
		return bytesOf(t, eight, id, &wire.BulkCredit{Kind: kind, Flow: flow, ConsumedOffset: small(), CreditLimit: small() << by.IntN(60)})
	case 4:
		return bytesOf(t, eight, id, &wire.BulkFinish{Kind: kind, Flow: flow, FinalOffset: small()})
	case 5:
		return bytesOf(t, eight, id, &wire.BulkCancel{Kind: kind, Reason: wire.CancelReason(1 + by.IntN(5)), Message: "enough"})
	case 6:
		b := make([]byte, by.IntN(40))
		for i := range b {
			b[i] = byte(by.IntN(4))
		}
		f, err := frame.Append(nil, frame.Frame{ID: id, Flags: frame.Bulk | frame.Flags(by.IntN(2)), Body: b})
		if err != nil {
			t.Fatal(err)
		}
		return f
	default:
		b, err := wire.AppendRecord(nil, id, wire.Record{Kind: kind, Flow: flow, Offset: small(), Data: pattern(1 + by.IntN(30))})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
