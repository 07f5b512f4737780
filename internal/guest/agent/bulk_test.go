package agent_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	eight wire.Generation = 8 // The first with raw records.

	smallest = 16 << 10 // The bounds of a record,
	largest  = 3 << 20
	widest   = 32 << 20 // and the largest window.
)

// newRaw is a host of an agent that moves raw records.
func newRaw(t *testing.T) *host {
	t.Helper()
	nstest.Root(t)
	return newHost(t, config{generation: eight})
}

// tell sends a message of generation 8.
func (h *host) tell(id uint32, m wire.Message) {
	h.t.Helper()
	h.write(bytesOf(h.t, eight, id, m))
}

func (h *host) record(id uint32, kind wire.BulkKind, offset uint64, data []byte) {
	h.t.Helper()
	b, err := wire.AppendRecord(nil, id, wire.Record{Kind: kind, Flow: wire.FlowHostToGuest, Offset: offset, Data: data})
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(b)
}

// want takes the next frame of an id, which must be an M.
func want[M wire.Message](h *host, id uint32) M {
	h.t.Helper()
	f := h.next(id)
	m, ok := f.Message.(M)
	if !ok {
		h.t.Fatalf("id %d: got %s %+v, want %T", id, f.Type, f.Message, m)
	}
	return m
}

func offer(record uint32, credit uint64) *wire.BulkOffer {
	return &wire.BulkOffer{Format: 1, MaxRecordPayload: record, GuestToHostCreditLimit: credit}
}

// collectFlow takes the records of a flow until its finish, and grants step more
// whenever all that was granted has come.
func (h *host) collectFlow(id uint32, kind wire.BulkKind, record int, limit, step uint64, to io.Writer) (got uint64) {
	h.t.Helper()
	for {
		f := h.next(id)
		if f.Flags != frame.Bulk {
			m, ok := f.Message.(*wire.BulkFinish)
			if !ok || m.Kind != kind || m.Flow != wire.FlowGuestToHost || m.FinalOffset != got {
				h.t.Fatalf("after %d bytes: %s %+v", got, f.Type, f.Message)
			}
			return got
		}
		r := f.Record
		if r.Kind != kind || r.Flow != wire.FlowGuestToHost || r.Offset != got || len(r.Data) > record || got+uint64(len(r.Data)) > limit {
			h.t.Fatalf("a record of kind %d, flow %d at %d with %d bytes, after %d bytes with a limit of %d", r.Kind, r.Flow, r.Offset, len(r.Data), got, limit)
		}
		_, _ = to.Write(r.Data)
		if got += uint64(len(r.Data)); got == limit {
			limit = got + step
			h.tell(id, &wire.BulkCredit{Kind: kind, Flow: wire.FlowGuestToHost, ConsumedOffset: got, CreditLimit: limit})
		}
	}
}

// A file of the agent's in the generation-8 way, by the recorded frames of the
// reference (protocol section 19, H15 and G30 to G32) but for the agent's own
// generation.
//
//holds:wire 12: accepted before data, contiguous, never above the limit, finish exact, terminal last
func TestBulkGoldenRead(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		if err := os.WriteFile("/f", []byte("0123456789"), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := h.openFile("/f", wire.OpenOptions{Read: true}); n != 1 {
			t.Fatal(n)
		}
		const request = "000000860000000402a361760961746f636f72652e66732e7265717565737461705867a2626f70a16452656164a36668616e646c6501666f666673657402636c656ef66462756c6ba366666f726d617401726d61785f7265636f72645f7061796c6f61641a00040000781a67756573745f746f5f686f73745f6372656469745f6c696d69741a00800000"
		b, err := hex.DecodeString(request)
		if err != nil {
			t.Fatal(err)
		}
		h.write(b)
		for _, want := range []string{
			"0000008e0000000400a3617608617472636f72652e62756c6b2e61636365707465646170586ca6646b696e640165666c6f77730266666f726d617401726d61785f7265636f72645f7061796c6f61641a00040000781a686f73745f746f5f67756573745f6372656469745f6c696d697400781a67756573745f746f5f686f73745f6372656469745f6c696d69741a00800000",
			"0000001900000004080102000000000000000000003233343536373839",
			"0000003b0000000400a3617608617470636f72652e62756c6b2e66696e6973686170581ba3646b696e640164666c6f77026c66696e616c5f6f666673657408",
			"000000310000000401a3617608617470636f72652e66732e726573706f6e7365617052a3626f6bf5656572726f72f66464617461f6",
		} {
			got, err := frame.Append(nil, h.next(4).Frame)
			if err != nil || hex.EncodeToString(got) != want {
				t.Errorf("got  %x, %v\nwant %s", got, err, want)
			}
		}
	})
}

// scratch makes the file /f of size bytes that repeat with a prime period.
func scratch(t *testing.T, size int) (sum [32]byte) {
	t.Helper()
	f, err := os.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	period := pattern(1<<20 - 3)
	for left := size; left > 0; left -= len(period) {
		period = period[:min(len(period), left)]
		hash.Write(period)
		if _, err := f.Write(period); err != nil {
			t.Fatal(err)
		}
	}
	return [32]byte(hash.Sum(nil))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*31 ^ i>>9)
	}
	return b
}

// extremes are the bounds of what can be agreed on.
var extremes = []struct {
	name           string
	record         uint32
	window, credit uint64
}{
	{"smallest record and window", smallest, smallest, smallest},
	{"smallest record, one byte at first", smallest, 1, smallest},
	{"largest record, MiB by MiB", largest, 1 << 20, 1 << 20},
	{"largest record and window", largest, widest, widest},
}

//holds:wire 12: accepted before data, contiguous, never above the limit, finish exact, terminal last
func TestBulkRead(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		size := 8<<20 + 5
		sum := scratch(t, size)
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		for i, c := range extremes {
			id := uint32(10 + i)
			h.tell(id, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}, Bulk: offer(c.record, c.window)})
			if m := want[*wire.BulkAccepted](h, id); *m != (wire.BulkAccepted{
				Kind: wire.BulkFS, Flows: wire.FlowGuestToHost, Format: 1, MaxRecordPayload: c.record, GuestToHostCreditLimit: c.window,
			}) {
				t.Errorf("%s: accepted %+v", c.name, m)
			}
			hash := sha256.New()
			got := h.collectFlow(id, wire.BulkFS, int(c.record), c.window, c.credit, hash)
			if r := want[*wire.FSResponse](h, id); !r.OK || got != uint64(size) || [32]byte(hash.Sum(nil)) != sum {
				t.Errorf("%s: %d bytes, %s", c.name, got, contract.Outcome(r))
			}
		}
	})
}

// A long read by credits of a MiB needs little memory, and credit is all that
// makes it go on: the limit is never passed, which collectFlow sees.
//
//holds:wire 12: 1 GiB by credits of 1 MiB in bounded memory (64 MiB without `AGENTD_LONG=1`)
func TestBulkReadMemory(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		size := 64 << 20
		if os.Getenv("AGENTD_LONG") != "" {
			size = 1 << 30
		}
		sum := scratch(t, size)
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		before := heap()
		h.tell(5, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}, Bulk: offer(largest, 1<<20)})
		want[*wire.BulkAccepted](h, 5)
		hash, peak := sha256.New(), &heapPeak{}
		got := h.collectFlow(5, wire.BulkFS, largest, 1<<20, 1<<20, io.MultiWriter(hash, peak))
		if r := want[*wire.FSResponse](h, 5); !r.OK || got != uint64(size) || [32]byte(hash.Sum(nil)) != sum {
			t.Errorf("%d bytes, %s", got, contract.Outcome(r))
		}
		// Of both sides, and with what the collector has not freed yet: this test holds
		// a MiB of frames as well.
		const most = 24 << 20
		if grown := peak.most - before; grown > most {
			t.Errorf("the heap grew by %d KiB", grown>>10)
		}
	})
}

// A heapPeak looks at the heap for every few MiB that are written to it.
type heapPeak struct{ written, most int64 }

func (p *heapPeak) Write(b []byte) (int, error) {
	const every = 4 << 20
	if p.written += int64(len(b)); p.written >= every {
		p.written = 0
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		p.most = max(p.most, int64(m.HeapAlloc))
	}
	return len(b), nil
}

// A read without credit waits, and reports its end without credit.
func TestBulkReadEnds(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		if err := os.WriteFile("/f", pattern(100), 0o600); err != nil {
			t.Fatal(err)
		}
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		for i, c := range []struct {
			offset, credit, want uint64
			length               uint64
		}{
			{credit: 100, want: 100, length: 1000},
			{credit: 40, want: 40, length: 40},
			{credit: 1, length: 0},
			{offset: 100, credit: 1, length: 5},
			{offset: 1 << 40, credit: 1, length: 5},
		} {
			id := uint32(10 + i)
			h.tell(id, &wire.FSRequest{Op: &wire.OpRead{Handle: handle, Offset: c.offset, Len: &c.length}, Bulk: offer(smallest, c.credit)})
			want[*wire.BulkAccepted](h, id)
			if got := h.collectFlow(id, wire.BulkFS, smallest, c.credit+1, 0, io.Discard); got != c.want {
				t.Errorf("%+v: got %d bytes", c, got)
			}
			if r := want[*wire.FSResponse](h, id); !r.OK {
				t.Errorf("%+v: %s", c, contract.Outcome(r))
			}
		}
	})
}

// write sends data as a flow into the guest and takes the credits. early says how
// long it is before the first record.
func (h *host) writeFlow(id uint32, kind wire.BulkKind, m *wire.BulkAccepted, data []byte, early bool) {
	h.t.Helper()
	finish := func() {
		h.tell(id, &wire.BulkFinish{Kind: kind, Flow: wire.FlowHostToGuest, FinalOffset: uint64(len(data))})
	}
	if early {
		finish()
	}
	limit, record := m.HostToGuestCreditLimit, uint64(m.MaxRecordPayload)
	var consumed uint64
	for at, size := uint64(0), uint64(len(data)); at < size; {
		n := min(record, size-at)
		for at+n > limit {
			c := want[*wire.BulkCredit](h, id)
			if c.Kind != kind || c.Flow != wire.FlowHostToGuest || c.ConsumedOffset < consumed || c.ConsumedOffset > at || c.CreditLimit < limit {
				h.t.Fatalf("at %d with a limit of %d: %+v", at, limit, c)
			}
			consumed, limit = c.ConsumedOffset, c.CreditLimit
		}
		h.record(id, kind, at, data[at:at+n])
		at += n
	}
	if !early {
		finish()
	}
}

// rest takes the credits that are left and the response after them.
func (h *host) rest(id uint32) *wire.FSResponse {
	h.t.Helper()
	for {
		switch m := h.next(id).Message.(type) {
		case *wire.BulkCredit:
		case *wire.FSResponse:
			return m
		default:
			h.t.Fatalf("id %d: %+v among the last frames of a write", id, m)
		}
	}
}

//holds:wire 12: accepted before data, contiguous, never above the limit, finish exact, terminal last
func TestBulkWrite(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		data := pattern(20<<20 + 1)
		for i, c := range []struct {
			record uint32
			agreed uint32
			window uint64
			early  bool
		}{
			{smallest, smallest, 1 << 20, false},
			{smallest, smallest, 1 << 20, true},
			{1 << 20, 1 << 20, 8 << 20, false},
			{128 << 10, 128 << 10, 2 << 20, true},
			{largest, largest, 8 << 20, true},
			{widest, largest, 8 << 20, false},
		} {
			id := uint32(10 + i)
			handle := h.openFile("/f", wire.OpenOptions{Write: true, Create: true, Truncate: true})
			h.tell(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(c.record, 0)})
			m := want[*wire.BulkAccepted](h, id)
			if *m != (wire.BulkAccepted{
				Kind: wire.BulkFS, Flows: wire.FlowHostToGuest, Format: 1, MaxRecordPayload: c.agreed, HostToGuestCreditLimit: c.window,
			}) {
				t.Errorf("%+v: accepted %+v", c, m)
			}
			h.writeFlow(id, wire.BulkFS, m, data, c.early)
			if r := h.rest(id); !r.OK {
				t.Errorf("%+v: %s", c, contract.Outcome(r))
			}
			if got, err := os.ReadFile("/f"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%+v: %d bytes, %v", c, len(got), err)
			}
		}
	})
}

// The credits of a write are those of the reference (protocol section 12.3).
func TestBulkCredits(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		handle := h.openFile("/f", wire.OpenOptions{Write: true, Create: true})
		h.tell(5, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(1<<20, 0)})
		want[*wire.BulkAccepted](h, 5)
		piece := pattern(1 << 20)
		for i, at := 0, uint64(0); i < 3; i++ {
			for range 4 {
				h.record(5, wire.BulkFS, at, piece)
				at += 1 << 20
			}
			if c := want[*wire.BulkCredit](h, 5); c.ConsumedOffset != at || c.CreditLimit != at+8<<20 {
				t.Errorf("at %d: %+v", at, c)
			}
		}
		h.tell(5, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: 12 << 20})
		if r := h.rest(5); !r.OK {
			t.Error(contract.Outcome(r))
		}
	})
}

// Many writes at once are granted less each, and all together what fits memory.
//
//holds:wire 12: 1 GiB by credits of 1 MiB in bounded memory (64 MiB without `AGENTD_LONG=1`)
func TestBulkWindows(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		handle := h.openFile("/f", wire.OpenOptions{Write: true, Create: true})
		before := heap()
		var granted uint64
		const flows, first = 30, 100
		for i := range uint32(flows) {
			id := first + i
			h.tell(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(largest, 0)})
			m := want[*wire.BulkAccepted](h, id)
			if m.HostToGuestCreditLimit < 2*uint64(m.MaxRecordPayload) || m.MaxRecordPayload < smallest {
				t.Errorf("flow %d: %+v", i, m)
			}
			granted += m.HostToGuestCreditLimit
		}
		const budget = 16<<20 + flows*2*smallest
		if granted > budget {
			t.Errorf("%d flows were granted %d bytes", flows, granted)
		}
		if grown := heap() - before; grown > bounded {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		for i := range uint32(flows) {
			h.tell(first+i, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest})
			if r := h.rest(first + i); !r.OK {
				t.Error(contract.Outcome(r))
			}
		}
		eventually(t, "the whole window again", func() bool {
			h.tell(99, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(largest, 0)})
			m := want[*wire.BulkAccepted](h, 99)
			h.tell(99, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest})
			h.rest(99)
			return m.HostToGuestCreditLimit == 8<<20
		})
	})
}

// Data for a stream that only goes out is dropped, and the stream goes on.
func TestDataForReader(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		scratch(t, 8<<20)
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		h.tell(4, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}})
		for range 3 {
			h.tell(4, &wire.FSData{Data: []byte("x")})
		}
		for got := 0; ; {
			switch m := h.next(4).Message.(type) {
			case *wire.FSData:
				got += len(m.Data)
				continue
			case *wire.FSResponse:
				if !m.OK || got != 8<<20 {
					t.Errorf("%d bytes, %s", got, contract.Outcome(m))
				}
			default:
				t.Errorf("%T", m)
			}
			return
		}
	})
}
