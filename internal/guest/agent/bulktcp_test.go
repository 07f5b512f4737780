package agent_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

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
//
//holds:wire 12: accepted before data, contiguous, never above the limit, finish exact, terminal last
func TestBulkTCP(t *testing.T) {
	nstest.Run(t, func() {
		h := rawNetwork(t)
		data := pattern(12<<20 + 3)
		port := peer(t, func(c *net.TCPConn) {
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
		port := peer(t, func(*net.TCPConn) { <-release })
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

//holds:wire 12: every slip ends one flow
func TestBulkTCPSlips(t *testing.T) {
	nstest.Run(t, func() {
		h := rawNetwork(t)
		port := peer(t, echo)
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
			{
				"credit beyond sent", func() {
					h.tell(id, &wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost, ConsumedOffset: 1, CreditLimit: 9})
				},
				"invalid TCP bulk credit: invalid bulk credit: peer consumed bytes the sender has not admitted",
			},
			{
				"credit for the wrong flow", func() { h.tell(id, &wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, CreditLimit: 9}) },
				"cancel 5; TCP session received credit for another kind or flow",
			},
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
