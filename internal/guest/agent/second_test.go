package agent_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// connection is that of the recorded greeting (protocol section 19).
var connection = [16]byte{0xe6, 0x20, 0x7d, 0x9e, 0xf3, 0x95, 0xc4, 0x52, 0x6b, 0x66, 0xee, 0x9a, 0x1b, 0x94, 0xd4, 0x75}

// A twin is a host of an agent with two ports. It has leased both of the first slots.
type twin struct {
	*host
	second *os.File
	deaf   bool // It is not read. Guarded by mu.
	of     [2][16]byte
	heard  atomic.Uint64 // Bytes of the second port.
}

// bound is an agent that has greeted, and the host's end of its second port.
func bound(t *testing.T, port *os.File) (*agent.Agent, *os.File) {
	t.Helper()
	second, ours := link(t)
	a := agent.Open(port)
	done := make(chan error, 1)
	go func() { done <- a.Bind(second, connection, time.Now().Add(patience)) }()
	var hello wire.PortGreeting
	if _, err := io.ReadFull(ours, hello[:]); err != nil || hex.EncodeToString(hello[:]) != "4d53424201080000e6207d9ef395c4526b66ee9a1b94d475" {
		t.Fatalf("greeted by %x, %v", hello, err)
	}
	answer := wire.AnswerPort(connection)
	if _, err := ours.Write(answer[:]); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = second.Close(), ours.Close() })
	return a, ours
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	return newTwinOf(t, eight)
}

func newTwinOf(t *testing.T, g wire.Generation) *twin {
	t.Helper()
	network(t)
	c := config{generation: g}
	if g >= nine {
		c.group = workload(t)
	}
	port, ours := link(t)
	h := &twin{host: attach(t, ours), of: [2][16]byte{{1}, {2}}}
	var a *agent.Agent
	a, h.second = bound(t, port)
	h.serve(a, port, c)
	ready := want[*wire.Ready](h.host, 0)
	if b := ready.BulkTransport; b == nil || *b != (wire.BulkTransport{Profile: "dual-port-v1", Port: "agent-bulk", ConnectionID: connection}) {
		t.Fatalf("ready has %+v", b)
	}
	for slot, of := range h.of {
		h.lease(slot, of)
	}
	go h.readSecond()
	return h
}

func (h *twin) lease(slot int, of [16]byte) {
	h.t.Helper()
	start, end := frame.SlotRange(slot)
	h.write(wire.AppendLease(nil, wire.Lease{Event: wire.LeaseGranted, IDStart: start, IDEndExclusive: end, Incarnation: of}))
}

// readSecond keeps the records beside the other frames, until the port ends.
func (h *twin) readSecond() {
	frames := frame.NewReader(h.second)
	for {
		h.mu.Lock()
		for h.deaf {
			h.more.Wait()
		}
		h.mu.Unlock()
		var of [16]byte
		if frames.Raw(of[:]) != nil {
			return
		}
		f, err := frames.Next()
		if err != nil {
			return
		}
		h.heard.Add(uint64(len(of) + frame.HeaderSize + len(f.Body)))
		slot, ok := frame.SlotOf(f.ID)
		if !ok || slot >= len(h.of) || h.of[slot] != of || f.Flags != frame.Bulk {
			h.t.Errorf("id %d with flags %v as %x", f.ID, f.Flags, of)
			continue
		}
		h.mu.Lock()
		h.frames = append(h.frames, h.open(f))
		h.more.Broadcast()
		h.mu.Unlock()
	}
}

func (h *twin) setDeaf(deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = deaf
	h.more.Broadcast()
}

// put sends a record by the second port.
func (h *twin) put(of [16]byte, id uint32, kind wire.BulkKind, offset uint64, data []byte) {
	h.t.Helper()
	b, err := wire.AppendRecord(of[:], id, wire.Record{Kind: kind, Flow: wire.FlowHostToGuest, Offset: offset, Data: data})
	if err == nil {
		_, err = h.second.Write(b)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// gather takes a flow from the guest to its finish, which may come before its last
// records, and grants a window whenever all that was granted has come.
func (h *twin) gather(id uint32, kind wire.BulkKind, window uint64, to io.Writer) uint64 {
	h.t.Helper()
	got, limit, final := uint64(0), window, ^uint64(0)
	for got != final {
		f := h.take("record or finish", func(f received) bool {
			_, finish := f.Message.(*wire.BulkFinish)
			return f.ID == id && (f.Flags == frame.Bulk || finish)
		})
		if m, ok := f.Message.(*wire.BulkFinish); ok {
			final = m.FinalOffset
			continue
		}
		if f.Record.Kind != kind || f.Record.Offset != got {
			h.t.Fatalf("a record of kind %d at %d, after %d bytes", f.Record.Kind, f.Record.Offset, got)
		}
		_, _ = to.Write(f.Record.Data)
		if got += uint64(len(f.Record.Data)); got == limit && got < final {
			limit += window
			h.tell(id, &wire.BulkCredit{Kind: kind, Flow: wire.FlowGuestToHost, ConsumedOffset: got, CreditLimit: limit})
		}
	}
	return got
}

// among takes the oldest message of its kind for an id, past records that have
// overtaken it.
func among[M wire.Message](h *twin, id uint32) M {
	h.t.Helper()
	f := h.take("message", func(f received) bool {
		_, ok := f.Message.(M)
		return ok && f.ID == id
	})
	m, _ := f.Message.(M)
	return m
}

//holds:wire 14: the greeting's bytes; no ready before the answer; one port without the word, and towards hosts of 7
//holds:wire 14: records by the second port alone, with the right incarnation; both orders of everything
func TestSecondPortRead(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		size := 8<<20 + 5
		sum := scratch(t, size)
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		for i, c := range extremes {
			id := uint32(10 + i)
			h.tell(id, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}, Bulk: offer(c.record, max(c.window, smallest))})
			among[*wire.BulkAccepted](h, id)
			hash := sha256.New()
			got := h.gather(id, wire.BulkFS, max(c.window, smallest), hash)
			if r := want[*wire.FSResponse](h.host, id); !r.OK || got != uint64(size) || [32]byte(hash.Sum(nil)) != sum {
				t.Errorf("%s: %d bytes, %s", c.name, got, contract.Outcome(r))
			}
		}
	})
}

// The finish of a flow into the guest may come before, between and after its records.
//
//holds:wire 14: records by the second port alone, with the right incarnation; both orders of everything
func TestSecondPortWrite(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		data := pattern(5 * smallest)
		for early := range 6 {
			id := uint32(10 + early)
			handle := h.openFile("/g", wire.OpenOptions{Write: true, Create: true, Truncate: true})
			h.tell(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(smallest, 0)})
			want[*wire.BulkAccepted](h.host, id)
			for n := range 6 {
				if n == early {
					h.tell(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: uint64(len(data))})
					h.ping() // It has been heard.
				}
				if n < 5 {
					h.put(h.of[0], id, wire.BulkFS, uint64(n*smallest), data[n*smallest:][:smallest])
				}
			}
			r := h.take("response", func(f received) bool { return f.ID == id && f.Flags == frame.Terminal })
			if m, ok := r.Message.(*wire.FSResponse); !ok || !m.OK {
				t.Errorf("finish before record %d: %+v", early, r.Message)
			}
			if got, err := os.ReadFile("/g"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("finish before record %d: %d bytes, %v", early, len(got), err)
			}
		}
	})
}

//holds:wire 14: records by the second port alone, with the right incarnation; both orders of everything
func TestSecondPortTCP(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		port := peer(t, func(c *net.TCPConn) {
			got, _ := io.ReadAll(c)
			_, _ = c.Write(got)
		})
		start, _ := frame.SlotRange(1)
		h.tell(start, &wire.TCPConnect{Host: "127.0.0.1", Port: port, Bulk: offer(smallest, widest)})
		want[*wire.TCPConnected](h.host, start)
		want[*wire.BulkAccepted](h.host, start)
		data := pattern(smallest)
		h.tell(start, &wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, FinalOffset: uint64(len(data))})
		h.put(h.of[1], start, wire.BulkTCP, 0, data)
		var got bytes.Buffer
		h.gather(start, wire.BulkTCP, widest, &got)
		if !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes came back", got.Len())
		}
		want[*wire.TCPClosed](h.host, start)
	})
}

// What has no place on the second port is nobody's, and no slip on either ends more
// than one flow.
//
//holds:wire 14: slips, stale records, ends
func TestSecondPortSlips(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		handle := h.openFile("/g", wire.OpenOptions{Write: true, Create: true})
		begin := func(id uint32) {
			h.tell(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(smallest, 0)})
			want[*wire.BulkAccepted](h.host, id)
		}
		begin(5)
		begin(6)
		h.put([16]byte{9}, 5, wire.BulkFS, 0, []byte("stale"))
		h.put(h.of[1], 5, wire.BulkFS, 0, []byte("another's"))
		h.put([16]byte{}, 5, wire.BulkFS, 0, []byte("nobody's"))
		h.put(h.of[0], 77, wire.BulkFS, 0, []byte("without a session"))
		h.put(h.of[0], 0, wire.BulkFS, 0, []byte("the machine's"))
		h.put(h.of[0], 5, wire.BulkFS, 0, []byte("five")) // Behind those.
		h.tell(5, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: 4})
		if r := want[*wire.FSResponse](h.host, 5); !r.OK {
			t.Errorf("five: %s", contract.Outcome(r))
		}
		if got, err := os.ReadFile("/g"); err != nil || string(got) != "five" {
			t.Errorf("the file has %q, %v", got, err)
		}

		h.record(6, wire.BulkFS, 0, []byte("by the wrong port"))
		const bound = "raw bulk record arrived on the bound control port"
		if m := want[*wire.BulkCancel](h.host, 6); m.Reason != wire.CancelProtocol || m.Message != bound {
			t.Errorf("%+v", m)
		}
		if r := want[*wire.FSResponse](h.host, 6); r.OK || !strings.Contains(contract.Outcome(r), bound) {
			t.Errorf("six: %s", contract.Outcome(r))
		}
		h.record(78, wire.BulkFS, 0, []byte("by the wrong port, without a session"))
		want[*wire.ProtocolError](h.host, 78)

		begin(7)
		plain, err := frame.Append(h.of[0][:], frame.Frame{ID: 7, Body: []byte("no record")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.second.Write(plain); err != nil {
			t.Fatal(err)
		}
		want[*wire.BulkCancel](h.host, 7)
		want[*wire.FSResponse](h.host, 7)

		start, _ := frame.SlotRange(2) // It is not leased.
		h.tell(start, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle}, Bulk: offer(smallest, 0)})
		if r := want[*wire.FSResponse](h.host, start); r.OK || !strings.Contains(contract.Outcome(r), "lease") {
			t.Errorf("without a lease: %s", contract.Outcome(r))
		}
		h.ping()
		if n := h.kept(0, 100); n != 0 {
			t.Errorf("%d frames more", n)
		}
	})
}

// The end of a lease is acknowledged when no record of it is on its way any more.
//
//holds:wire 13: the acknowledgement after the client's last frame; slips are not fatal; commands end
func TestSecondPortLeaseEnds(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		h.setDeaf(true) // But for a record whose reading is under way.
		scratch(t, 32<<20)
		handle := h.openFile("/f", wire.OpenOptions{Read: true})
		h.tell(5, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}, Bulk: offer(largest, widest)})
		eventually(t, "the second port is full", func() bool { return strings.Contains(stacks(), "mux.writeAll") })
		start, end := frame.SlotRange(0)
		h.tell(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end, Incarnation: &h.of[0]})
		eventually(t, "the read has been let go", func() bool { return moving() == 0 })
		h.ping()
		if n := h.kept(0, 1); n != 0 {
			t.Error("acknowledged while a record is on its way")
		}
		h.setDeaf(false)
		h.take("acknowledgement", func(f received) bool { return f.Lease.Event == wire.LeaseReleased })
	})
}

// A record of impossible length ends the link, for nothing tells where the next
// begins.
//
//holds:wire 14: slips, stale records, ends
func TestSecondPortEnds(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		if _, err := h.second.Write(bytes.Repeat([]byte{0xff}, 16+frame.HeaderSize)); err != nil {
			t.Fatal(err)
		}
		if s := h.wait(); s.err == nil || !strings.Contains(s.err.Error(), "second port") {
			t.Errorf("ended with %+v", s)
		}
	})
}

// A host that closes its half of the second port alone is served on.
func TestSecondPortHalfClosed(t *testing.T) {
	nstest.Run(t, func() {
		h := newTwin(t)
		if err := closeWrite(h.second); err != nil {
			t.Fatal(err)
		}
		h.ping()
	})
}

// Without the host's answer to its greeting the agent is not ready.
//
//holds:wire 14: the greeting's bytes; no ready before the answer; one port without the word, and towards hosts of 7
func TestBindFails(t *testing.T) {
	wrong := wire.AnswerPort([16]byte{1})
	for name, answer := range map[string][]byte{
		"another connection": wrong[:],
		"an echo":            bytes.Repeat([]byte{0}, 24),
		"cut short":          wrong[:10],
		"no answer":          nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port, _ := link(t)
			second, ours := link(t)
			if _, err := ours.Write(answer); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(100 * time.Millisecond)
			if name == "cut short" {
				deadline = time.Now().Add(patience)
				if err := closeWrite(ours); err != nil {
					t.Fatal(err)
				}
			}
			if err := agent.Open(port).Bind(second, connection, deadline); err == nil {
				t.Error("the agent has bound the port")
			}
		})
	}
}
