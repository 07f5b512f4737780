package agent_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

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
//
//holds:wire 12: every slip ends one flow
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
			{
				"wrong offset", &wire.OpWrite{Handle: writing}, func() { h.record(id, wire.BulkFS, 5, []byte("x")) },
				"cancel 5; invalid filesystem bulk record: bulk record offset 5 does not match expected 0",
			},
			{"finish too small", &wire.OpWrite{Handle: writing}, func() {
				h.record(id, wire.BulkFS, 0, []byte("abc"))
				h.tell(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 2})
			}, "cancel 5; invalid filesystem bulk finish: bulk finish offset 2 does not match expected 3"},
			{
				"two finishes", &wire.OpWrite{Handle: writing}, frames(id,
					&wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 9}, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 8}),
				"cancel 5; invalid filesystem bulk finish: bulk finish offset 8 does not match the earlier 9",
			},
			{"after the finish", &wire.OpWrite{Handle: writing}, func() {
				h.tell(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into, FinalOffset: 2})
				h.record(id, wire.BulkFS, 0, []byte("abc"))
			}, "cancel 5; invalid filesystem bulk record: bulk record ends at 3 behind the finish offset 2"},
			{
				"more than len", &wire.OpWrite{Handle: writing, Len: &two}, func() { h.record(id, wire.BulkFS, 0, []byte("abc")) },
				"write length mismatch: expected 2, received at least 3",
			},
			{
				"less than len", &wire.OpWrite{Handle: writing, Len: &two}, frames(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: into}),
				"write length mismatch: expected 2, wrote 0",
			},
			{
				"record too long", &wire.OpWrite{Handle: writing}, func() { h.record(id, wire.BulkFS, 0, pattern(smallest+1)) },
				"cancel 5; invalid filesystem bulk record: invalid bulk record payload length 16385 (max 16384)",
			},
			{
				"another kind", &wire.OpWrite{Handle: writing}, func() { h.record(id, wire.BulkTCP, 0, []byte("x")) },
				"cancel 5; invalid filesystem bulk record: bulk record of another kind or flow",
			},
			{
				"credit beyond sent", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: out, ConsumedOffset: 90, CreditLimit: 100}),
				"invalid filesystem bulk credit: invalid bulk credit: peer consumed bytes the sender has not admitted",
			},
			{
				"credit too wide", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: out, CreditLimit: widest + 1}),
				"invalid filesystem bulk credit: invalid bulk credit: more than 33554432 bytes beyond what was consumed",
			},
			{
				"credit back", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: out, CreditLimit: 49}),
				"invalid filesystem bulk credit: invalid bulk credit: peer moved its credit back",
			},
			{
				"credit for the wrong flow", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCredit{Kind: wire.BulkFS, Flow: into, CreditLimit: 60}),
				"cancel 5; filesystem read received credit for another kind or flow",
			},
			{
				"record for a reader", &wire.OpRead{Handle: reading}, func() { h.record(id, wire.BulkFS, 0, []byte("x")) },
				"cancel 5; unknown filesystem write session: 4",
			},
			{
				"CBOR data", &wire.OpWrite{Handle: writing}, frames(id, &wire.FSData{Data: []byte("x")}),
				"cancel 5; CBOR filesystem data is invalid after raw bulk acceptance",
			},
			{"cancelled write", &wire.OpWrite{Handle: writing}, frames(id, &wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "enough"}), "enough"},
			{"cancelled read", &wire.OpRead{Handle: reading}, frames(id, &wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "enough"}), "enough"},
			{"reserved bytes", &wire.OpWrite{Handle: writing}, func() { h.write(badRecord(t, func(b []byte) { b[2] = 1 })) }, "cancel 5; malformed raw record"},
			{"unknown kind", &wire.OpWrite{Handle: writing}, func() { h.write(badRecord(t, func(b []byte) { b[0] = 3 })) }, "cancel 5; malformed raw record"},
			{"unknown flow", &wire.OpWrite{Handle: writing}, func() { h.write(badRecord(t, func(b []byte) { b[1] = 3 })) }, "cancel 5; malformed raw record"},
			{"another flag", &wire.OpWrite{Handle: writing}, func() {
				b := badRecord(t, func([]byte) {})
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
func badRecord(t *testing.T, change func([]byte)) []byte {
	t.Helper()
	const id = 4
	b, err := wire.AppendRecord(nil, id, wire.Record{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	change(b[frame.HeaderSize:])
	return b
}

// What comes for nobody: records are answered, all else is passed over in silence.
//
//holds:wire 12: bad offers get the terminal frame; what comes too late gets nothing
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
//
//holds:wire 12: bad offers get the terminal frame; what comes too late gets nothing
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
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest-1, 1)}, "invalid filesystem read bulk offer: invalid maximum bulk record payload 16383"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: offer(smallest, widest+1)}, "invalid filesystem read bulk offer: invalid bulk credit: initial guest-to-host limit 33554433 exceeds 33554432"},
			{eight, &wire.FSRequest{Op: &wire.OpRead{Handle: f}, Bulk: &wire.BulkOffer{Format: 2, MaxRecordPayload: smallest, GuestToHostCreditLimit: 1}}, "invalid filesystem read bulk offer: unsupported bulk format 2"},
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
//
//holds:wire 12: a host of generation 7 sees nothing of it
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
