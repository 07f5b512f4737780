package agent_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
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

// scratch makes a file of size bytes that repeat with a prime period.
func scratch(t *testing.T, name string, size int) (sum [32]byte) {
	t.Helper()
	f, err := os.Create(name)
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

func TestBulkRead(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		size := 8<<20 + 5
		sum := scratch(t, "/f", size)
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
func TestBulkReadMemory(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		size := 64 << 20
		if os.Getenv("AGENTD_LONG") != "" {
			size = 1 << 30
		}
		sum := scratch(t, "/f", size)
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		before := heap()
		h.tell(5, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}, Bulk: offer(largest, 1<<20)})
		want[*wire.BulkAccepted](h, 5)
		hash := sha256.New()
		got := h.collectFlow(5, wire.BulkFS, largest, 1<<20, 1<<20, hash)
		if r := want[*wire.FSResponse](h, 5); !r.OK || got != uint64(size) || [32]byte(hash.Sum(nil)) != sum {
			t.Errorf("%d bytes, %s", got, contract.Outcome(r))
		}
		const most = 16 << 20 // Of both sides: this test holds a MiB of frames as well.
		if grown := heap() - before; grown > most {
			t.Errorf("the heap grew by %d KiB", grown>>10)
		}
	})
}

// A read that nobody grants anything waits, and tells its end without credit.
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

// rest takes the credits that are left and the response behind them.
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

func TestBulkWrite(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		data := pattern(20<<20 + 1)
		for i, c := range []struct {
			record uint32
			agreed uint32
			early  bool
		}{{smallest, smallest, false}, {smallest, smallest, true}, {1 << 20, 1 << 20, false}, {largest, largest, true}, {widest, largest, false}} {
			id := uint32(10 + i)
			handle := h.openFile("/f", wire.OpenOptions{Write: true, Create: true, Truncate: true})
			h.tell(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(c.record, 0)})
			m := want[*wire.BulkAccepted](h, id)
			if *m != (wire.BulkAccepted{
				Kind: wire.BulkFS, Flows: wire.FlowHostToGuest, Format: 1, MaxRecordPayload: c.agreed, HostToGuestCreditLimit: 8 << 20,
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

// ended says how a session ended: its frames from now on, in short.
func (h *host) ended(id uint32) string {
	h.t.Helper()
	var all []string
	for {
		f := h.next(id)
		switch m := f.Message.(type) {
		case *wire.BulkCancel:
			all = append(all, "cancel "+strconv.Itoa(int(m.Reason)))
		case *wire.FSResponse:
			return strings.Join(append(all, contract.Outcome(m)), "; ")
		case *wire.TCPFailed:
			return strings.Join(append(all, m.Error), "; ")
		case *wire.TCPClosed:
			return strings.Join(append(all, "closed"), "; ")
		case *wire.ProtocolError:
			return strings.Join(append(all, string(m.Kind)+": "+m.Message), "; ")
		case *wire.BulkFinish:
			all = append(all, "finish "+strconv.FormatUint(m.FinalOffset, 10))
		case *wire.BulkAccepted:
			all = append(all, "accepted")
		case *wire.TCPConnected:
			all = append(all, "connected")
		case nil:
			all = append(all, "record")
		default:
			h.t.Fatalf("id %d: %s", id, f.Type)
		}
	}
}

// Every row of the reference's table of slips (protocol section 12.5), each of
// which ends one flow and nothing else.
func TestBulkSlips(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		if err := os.WriteFile("/f", pattern(100), 0o600); err != nil {
			t.Fatal(err)
		}
		reading := h.openFile("/f", wire.OpenOptions{Read: true})
		writing := h.openFile("/g", wire.OpenOptions{Write: true, Create: true})
		two := uint64(2)
		const into, out = wire.FlowHostToGuest, wire.FlowGuestToHost
		h.tell(3, &wire.FSRequest{Op: &wire.OpWrite{Handle: writing}, Bulk: offer(smallest, 0)}) // The neighbour.
		want[*wire.BulkAccepted](h, 3)
		frames := func(id uint32, pieces ...wire.Message) func() {
			return func() {
				for _, m := range pieces {
					h.tell(id, m)
				}
			}
		}
		const id = 4
		for _, c := range []struct {
			name string
			op   wire.FSOp
			slip func()
			want string
		}{
			{"wrong offset", &wire.OpWrite{Handle: writing}, func() { h.record(id, wire.BulkFS, 5, []byte("x")) },
				"cancel 5; invalid filesystem bulk record: bulk record offset 5 does not match expected 0"},
			{"finish too small", &wire.OpWrite{Handle: writing}, func() {
				h.record(id, wire.BulkFS, 0, []byte("abc"))
				h.tell(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 2})
			}, "cancel 5; invalid filesystem bulk finish: bulk finish offset 2 does not match expected 3"},
			{"two finishes", &wire.OpWrite{Handle: writing}, frames(id,
				&wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 9}, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 8}),
				"cancel 5; invalid filesystem bulk finish: bulk finish offset 8 does not match the earlier 9"},
			{"behind the finish", &wire.OpWrite{Handle: writing}, func() {
				h.tell(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 2})
				h.record(id, wire.BulkFS, 0, []byte("abc"))
			}, "cancel 5; invalid filesystem bulk record: bulk record ends at 3 behind the finish offset 2"},
			{"more than len", &wire.OpWrite{Handle: writing, Len: &two}, func() { h.record(id, wire.BulkFS, 0, []byte("abc")) },
				"write length mismatch: expected 2, received at least 3"},
			{"less than len", &wire.OpWrite{Handle: writing, Len: &two}, frames(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into}),
				"write length mismatch: expected 2, wrote 0"},
			{"record too long", &wire.OpWrite{Handle: writing}, func() { h.record(id, wire.BulkFS, 0, pattern(smallest+1)) },
				"cancel 5; invalid filesystem bulk record: bulk record of 16385 bytes exceeds the agreed 16384"},
			{"another kind", &wire.OpWrite{Handle: writing}, func() { h.record(id, wire.BulkTCP, 0, []byte("x")) },
				"cancel 5; invalid filesystem bulk record: bulk record of another kind or flow"},
			{"credit beyond sent", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: out, ConsumedOffset: 90, CreditLimit: 100}),
				"invalid filesystem bulk credit: invalid bulk credit: peer consumed bytes the sender has not admitted"},
			{"credit too wide", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: out, CreditLimit: widest + 1}),
				"invalid filesystem bulk credit: invalid bulk credit: more than 33554432 bytes beyond what was consumed"},
			{"credit back", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: out, CreditLimit: 49}),
				"invalid filesystem bulk credit: invalid bulk credit: peer moved its credit back"},
			{"credit for the wrong flow", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: into, CreditLimit: 60}),
				"cancel 5; filesystem read received credit for another kind or flow"},
			{"record for a reader", &wire.OpRead{Handle: reading}, func() { h.record(id, wire.BulkFS, 0, []byte("x")) },
				"cancel 5; unknown filesystem write session: 4"},
			{"CBOR data", &wire.OpWrite{Handle: writing}, frames(id, &wire.FSData{Data: []byte("x")}),
				"cancel 5; CBOR filesystem data is invalid after raw bulk acceptance"},
			{"cancelled write", &wire.OpWrite{Handle: writing}, frames(id, &wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "enough"}), "enough"},
			{"cancelled read", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "enough"}), "enough"},
			{"reserved bytes", &wire.OpWrite{Handle: writing}, func() { h.write(badRecord(t, id, func(b []byte) { b[2] = 1 })) }, "cancel 5; malformed raw record"},
			{"unknown kind", &wire.OpWrite{Handle: writing}, func() { h.write(badRecord(t, id, func(b []byte) { b[0] = 3 })) }, "cancel 5; malformed raw record"},
			{"unknown flow", &wire.OpWrite{Handle: writing}, func() { h.write(badRecord(t, id, func(b []byte) { b[1] = 3 })) }, "cancel 5; malformed raw record"},
			{"another flag", &wire.OpWrite{Handle: writing}, func() {
				b := badRecord(t, id, func([]byte) {})
				b[8] |= byte(frame.Terminal)
				h.write(b)
			}, "cancel 5; malformed raw record"},
		} {
			credit := uint64(50) // Of a reader, which so has to wait for more.
			_, isWrite := c.op.(*wire.OpWrite)
			if isWrite {
				credit = 0
			}
			h.tell(id, &wire.FSRequest{Op: c.op, Bulk: offer(smallest, credit)})
			want[*wire.BulkAccepted](h, id)
			if !isWrite {
				if f := h.next(id); len(f.Record.Data) != int(credit) {
					t.Fatalf("%s: %+v", c.name, f)
				}
			}
			c.slip()
			if got := h.ended(id); got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
			}
		}
		h.record(3, wire.BulkFS, 0, []byte("untouched"))
		h.tell(3, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 9})
		if r := h.rest(3); !r.OK {
			t.Error("the neighbour:", contract.Outcome(r))
		}
	})
}

// badRecord is a record with a change in its header.
func badRecord(t *testing.T, id uint32, change func([]byte)) []byte {
	t.Helper()
	b, err := wire.AppendRecord(nil, id, wire.Record{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	change(b[frame.HeaderSize:])
	return b
}

// What comes for nobody: records are answered, all else is passed over in silence.
func TestBulkStray(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		const id = 7
		for _, m := range []wire.Message{
			&wire.BulkCredit{Kind: wire.BulkFS, Flow: wire.FlowGuestToHost}, &wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost},
			&wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest}, &wire.BulkCancel{Kind: wire.BulkTCP, Reason: wire.CancelCaller},
		} {
			h.tell(id, m)
		}
		h.ping()
		if n := h.kept(id, id+1); n != 0 {
			t.Errorf("%d answers to what came too late", n)
		}
		h.record(id, wire.BulkFS, 0, []byte("x"))
		if got := h.ended(id); got != "cancel 5; unknown filesystem write session: 7" {
			t.Error(got)
		}
		h.record(id, wire.BulkTCP, 0, []byte("x"))
		if got := h.ended(id); got != "cancel 5; unknown TCP session: 7" {
			t.Error(got)
		}
		h.tell(id, &wire.BulkAccepted{Kind: wire.BulkFS, Flows: wire.FlowGuestToHost, Format: 1})
		if got := h.ended(id); got != "unsupported_message_type: host cannot accept a guest-initiated bulk offer" {
			t.Error(got)
		}
		h.write([]byte{0, 0, 0, 5, 0, 0, 0, id, byte(frame.Bulk)})
		if got := h.ended(id); got != "malformed_message: malformed raw record" {
			t.Error(got)
		}
	})
}

// Bad offers get the operation's terminal frame, and no acceptance.
func TestBulkBadOffers(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		if err := os.WriteFile("/f", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f := h.openFile("/f", wire.OpenOptions{Read: true, Write: true})
		const id = 9
		for _, c := range []struct {
			v    wire.Generation
			m    wire.Message
			want string
		}{
			{eight, &wire.FSRequest{Op: &wire.OpStat{Path: "/"}, Bulk: offer(smallest, 1)}, "raw bulk is only valid for streaming reads and writes"},
			{7, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest, 1)}, "raw bulk offer requires protocol generation 8"},
			{7, &wire.TCPConnect{Host: "127.0.0.1", Port: 1, Bulk: offer(smallest, 1)}, "raw bulk offer requires protocol generation 8"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: 77}, Bulk: offer(smallest, 1)}, "read: invalid handle: 77"},
			{eight, &wire.FSRequest{Op: &wire.OpWrite{Handle: 77}, Bulk: offer(smallest, 0)}, "write: invalid handle: 77"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest, 0)}, "filesystem read bulk offer must grant guest-to-host credit"},
			{eight, &wire.FSRequest{Op: &wire.OpWrite{Handle: f}, Bulk: offer(smallest, 1)}, "filesystem write bulk offer must not grant guest-to-host credit"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest-1, 1)}, "filesystem read bulk offer has records of 16383 bytes, less than 16384"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest, widest+1)}, "filesystem read bulk offer grants 33554433 bytes, more than 33554432"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: &wire.BulkOffer{Format: 2, MaxRecordPayload: smallest, GuestToHostCreditLimit: 1}}, "filesystem read bulk offer has the unknown format 2"},
			{eight, &wire.TCPConnect{Host: "127.0.0.1", Port: 1, Bulk: offer(smallest, 0)}, "TCP bulk offer must grant guest-to-host credit"},
		} {
			h.write(bytesOf(t, c.v, id, c.m))
			if got := h.ended(id); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
	})
}

// An agent that announces 7 does not see offers, and knows no records.
func TestNoBulkInSeven(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		h := newHost(t, config{})
		if err := os.WriteFile("/f", []byte("abc"), 0o600); err != nil {
			t.Fatal(err)
		}
		f := h.openFile("/f", wire.OpenOptions{Read: true})
		h.tell(5, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest, 1)})
		if data, r := h.response(5); string(data) != "abc" || !r.OK {
			t.Errorf("%q, %s", data, contract.Outcome(r))
		}
		h.record(6, wire.BulkFS, 0, []byte("x"))
		if got := h.ended(6); !strings.HasPrefix(got, "malformed_message: ") {
			t.Error(got)
		}
		h.tell(6, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest})
		if got := h.ended(6); got != "unsupported_message_type: core.bulk.finish needs a newer agent" {
			t.Error(got)
		}
	})
}

func rawNetwork(t *testing.T) *host {
	t.Helper()
	network(t) // Brings the loopback up.
	return newHost(t, config{generation: eight})
}

func (h *host) dialRaw(id uint32, port uint16, record uint32, credit uint64) *wire.BulkAccepted {
	h.t.Helper()
	h.tell(id, &wire.TCPConnect{Host: "127.0.0.1", Port: port, Bulk: offer(record, credit)})
	want[*wire.TCPConnected](h, id)
	m := want[*wire.BulkAccepted](h, id)
	if m.Kind != wire.BulkTCP || m.Flows != 3 || m.Format != 1 || m.GuestToHostCreditLimit != credit || m.MaxRecordPayload != min(record, 256<<10) {
		h.t.Errorf("accepted %+v", m)
	}
	return m
}

// Both flows of a connection at once, at the bounds of what can be agreed on.
func TestBulkTCP(t *testing.T) {
	nstest.Run(t, func() {
		h := rawNetwork(t)
		data := pattern(12<<20 + 3)
		port := peer(t, "127.0.0.1", func(c *net.TCPConn) {
			got, _ := io.ReadAll(c)
			_, _ = c.Write(got)
		})
		for i, c := range extremes {
			id := uint32(10 + i)
			m := h.dialRaw(id, port, c.record, c.window)
			h.writeFlow(id, wire.BulkTCP, m, data, i%2 == 0)
			var got bytes.Buffer
			for h.skipCredit(id) {
			}
			h.collectFlow(id, wire.BulkTCP, int(c.record), c.window, c.credit, &got)
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%s: %d bytes came back", c.name, got.Len())
			}
			if end := h.ended(id); end != "closed" {
				t.Errorf("%s: %s", c.name, end)
			}
		}
	})
}

// skipCredit takes the next frame of an id if it is a credit.
func (h *host) skipCredit(id uint32) bool {
	h.t.Helper()
	f := h.take("frame", func(f received) bool { return f.ID == id })
	if _, credit := f.Message.(*wire.BulkCredit); credit {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frames = append([]received{f}, h.frames...)
	return false
}

// A peer that does not read is felt by its host: what was granted is all that the
// guest ever holds.
func TestBulkTCPUnread(t *testing.T) {
	nstest.Run(t, func() {
		h := rawNetwork(t)
		release := make(chan struct{})
		port := peer(t, "127.0.0.1", func(*net.TCPConn) { <-release })
		defer close(release)
		before := heap()
		m := h.dialRaw(5, port, 256<<10, 1)
		limit := m.HostToGuestCreditLimit
		piece := pattern(int(m.MaxRecordPayload))
		var at uint64
		for at+uint64(len(piece)) <= limit {
			h.record(5, wire.BulkTCP, at, piece)
			at += uint64(len(piece))
		}
		h.ping()
		if grown := heap() - before; grown > 20<<20 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		h.tell(5, &wire.BulkCancel{Kind: wire.BulkTCP, Reason: wire.CancelCaller, Message: "given up"})
		for h.skipCredit(5) {
		}
		if got := h.ended(5); got != "given up" {
			t.Error(got)
		}
	})
}

func TestBulkTCPSlips(t *testing.T) {
	nstest.Run(t, func() {
		h := rawNetwork(t)
		port := peer(t, "127.0.0.1", echo)
		const id = 4
		for _, c := range []struct {
			name string
			slip func()
			want string
		}{
			{"wrong offset", func() { h.record(id, wire.BulkTCP, 1, []byte("x")) }, "cancel 5; invalid TCP bulk record: bulk record offset 1 does not match expected 0"},
			{"finish too small", func() {
				h.tell(id, &wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, FinalOffset: 9})
				h.tell(id, &wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, FinalOffset: 8})
			}, "cancel 5; invalid TCP bulk finish: bulk finish offset 8 does not match the earlier 9"},
			{"credit beyond sent", func() {
				h.tell(id, &wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost, ConsumedOffset: 1, CreditLimit: 9})
			},
				"invalid TCP bulk credit: invalid bulk credit: peer consumed bytes the sender has not admitted"},
			{"credit for the wrong flow", func() { h.tell(id, &wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, CreditLimit: 9}) },
				"cancel 5; TCP session received credit for another kind or flow"},
			{"CBOR data", func() { h.tell(id, &wire.TCPData{Data: []byte("x")}) }, "cancel 5; CBOR TCP data is invalid after raw bulk acceptance"},
			{"CBOR end", func() { h.tell(id, &wire.TCPEOF{}) }, "cancel 5; CBOR TCP EOF is invalid after raw bulk acceptance"},
			{"cancel", func() { h.tell(id, &wire.BulkCancel{Kind: wire.BulkTCP, Reason: wire.CancelCaller, Message: "enough"}) }, "enough"},
		} {
			t.Log(c.name)
			h.dialRaw(id, port, smallest, 5)
			c.slip()
			if got := h.ended(id); got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
			}
		}
		h.tell(id, &wire.TCPConnect{Host: "127.0.0.1", Port: 1, Bulk: offer(smallest, 1)})
		if got := h.ended(id); got != "connect 127.0.0.1:1: Connection refused (os error 111)" {
			t.Error(got)
		}
	})
}

// Hosts of generation 8 leave the end of a client's commands to the agent, and
// give its slot away when the agent has said that nothing of it is left.
func TestLeases(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		start, end := frame.SlotRange(1)
		one, two := [16]byte{1}, [16]byte{2}
		grant := func(l wire.Lease) { h.write(wire.AppendLease(nil, l)) }
		leave := func(i *[16]byte) {
			h.tell(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end, Incarnation: i})
		}
		yes := func(i [16]byte) wire.Lease {
			return wire.Lease{Event: wire.LeaseGranted, IDStart: start, IDEndExclusive: end, Incarnation: i}
		}
		grant(yes(one))
		grant(yes(one)) // Twice is once.
		h.tell(start, &wire.ExecRequest{Cmd: "sh", Args: []string{"-c", "yes & echo $$; exec sleep 1000"}, Rows: 1, Cols: 1})
		want[*wire.ExecStarted](h, start)
		pid := strings.SplitN(string(want[*wire.ExecStdout](h, start).Data), "\n", 2)[0]
		leave(&two) // Stale.
		h.ping()
		leave(&one)
		ack := h.take("acknowledgement", func(f received) bool { return f.Lease.Event == wire.LeaseReleased })
		if ack.Lease != (wire.Lease{Event: wire.LeaseReleased, IDStart: start, IDEndExclusive: end, Incarnation: one}) {
			t.Errorf("%+v", ack.Lease)
		}
		before := h.kept(start, end)
		eventually(t, "the end of the command", func() bool {
			_, err := os.Stat("/proc/" + pid)
			return os.IsNotExist(err)
		})
		h.ping()
		if after := h.kept(start, end); after != before {
			t.Errorf("%d frames behind the acknowledgement", after-before)
		}
		// Slips, none of which is fatal.
		grant(wire.Lease{Event: wire.LeaseReleased, IDStart: start, IDEndExclusive: end, Incarnation: one})
		grant(wire.Lease{Event: wire.LeaseGranted, IDStart: start, IDEndExclusive: end})
		grant(wire.Lease{Event: wire.LeaseGranted, IDStart: start + 1, IDEndExclusive: end, Incarnation: one})
		grant(yes(one))
		grant(yes(two)) // In its place.
		leave(&one)
		leave(nil) // Handled, without an acknowledgement.
		leave(nil)
		h.ping()
		if n := h.kept(0, 1); n != 0 {
			t.Errorf("%d answers to slips", n)
		}
		grant(yes(two))
		leave(&two)
		h.take("acknowledgement", func(f received) bool { return f.Lease.Incarnation == two })
	})
}

// A client that leaves in the middle of its flows leaves nothing of them behind.
func TestBulkDisconnect(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		scratch(t, "/f", 1<<20)
		reading := h.openFile("/f", wire.OpenOptions{Read: true})
		goroutines := runtime.NumGoroutine()
		writing := h.openFile("/g", wire.OpenOptions{Write: true, Create: true})
		h.tell(5, &wire.FSRequest{Op: &wire.OpRead{Handle: reading}, Bulk: offer(smallest, 10)})
		h.tell(6, &wire.FSRequest{Op: &wire.OpWrite{Handle: writing}, Bulk: offer(smallest, 0)})
		want[*wire.BulkAccepted](h, 5)
		want[*wire.BulkAccepted](h, 6)
		h.next(5) // The ten bytes.
		start, end := frame.SlotRange(0)
		h.tell(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		eventually(t, "the end of both", func() bool { return runtime.NumGoroutine() <= goroutines })
		if n := h.kept(5, 7); n != 0 {
			t.Errorf("%d frames for a client that has gone", n)
		}
	})
}
