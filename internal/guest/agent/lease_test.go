package agent_test

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Hosts of generation 8 leave the end of a client's commands to the agent, and
// give its slot away when the agent has said that nothing of it is left.
//
//holds:wire 13: the acknowledgement after the client's last frame; slips are not fatal; commands end
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
		pid, _, _ := strings.Cut(string(want[*wire.ExecStdout](h, start).Data), "\n")
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
			t.Errorf("%d frames after the acknowledgement", after-before)
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
//
//holds:wire 13: the acknowledgement after the client's last frame; slips are not fatal; commands end
func TestBulkDisconnect(t *testing.T) {
	nstest.Run(t, func() {
		h := newRaw(t)
		scratch(t, 1<<20)
		reading := h.openFile("/f", wire.OpenOptions{Read: true})
		writing := h.openFile("/g", wire.OpenOptions{Write: true, Create: true})
		h.tell(5, &wire.FSRequest{Op: &wire.OpRead{Handle: reading}, Bulk: offer(smallest, 10)})
		h.tell(6, &wire.FSRequest{Op: &wire.OpWrite{Handle: writing}, Bulk: offer(smallest, 0)})
		want[*wire.BulkAccepted](h, 5)
		want[*wire.BulkAccepted](h, 6)
		h.next(5) // The ten bytes.
		if n := moving(); n != 2 {
			t.Errorf("%d files are moved", n)
		}
		start, end := frame.SlotRange(0)
		h.tell(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		eventually(t, "the end of both", func() bool { return moving() == 0 })
		if n := h.kept(5, 7); n != 0 {
			t.Errorf("%d frames for a client that has gone", n)
		}
	})
}

// moving counts the goroutines that move files.
func moving() int {
	all := stacks()
	return strings.Count(all, "files.(*Read).run(") + strings.Count(all, "files.(*Write).run(")
}

// stacks are those of all goroutines.
func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// Each host meets the agent that it was made for: one of 7 or 8 sees nothing of what is
// newer, one of 9 and more an agent of 9.
//
//holds:wire 12: a host of generation 7 sees nothing of it
func TestGenerations(t *testing.T) {
	for _, tt := range []struct{ host, want wire.Generation }{{7, 7}, {8, 8}, {9, 9}, {255, 9}} {
		port, ours := link(t)
		h := attach(t, ours)
		h.write(bytesOf(t, tt.host, 0, &wire.Bootstrap{}))
		h.write(bytesOf(t, tt.host, 0, &wire.InitAck{}))
		a := agent.Open(port)
		if _, err := a.Bootstrap(); err != nil || a.Speaks() != tt.want {
			t.Fatalf("a host of %d: %v, an agent of %d", tt.host, err, a.Speaks())
		}
		if err := a.Greet(a.Speaks(), 1, 2); err != nil {
			t.Fatal(err)
		}
		h.serveBare(a, port, a.Speaks())
		greeting, ready := h.next(0), h.next(0)
		m, ok := ready.Message.(*wire.Ready)
		if !ok || greeting.Generation != tt.want || ready.Generation != tt.want || (m.RelayLease != nil) != (tt.want >= eight) || (m.WorkloadTransportBarrierVersion != nil) != (tt.want >= nine) {
			t.Errorf("a host of %d: greeted in %d, ready in %d with %+v", tt.host, greeting.Generation, ready.Generation, ready.Message)
			continue
		}
		m.RelayLease = nil
		if old := bytesOf(t, 7, 0, m); tt.want == 7 && !bytes.Equal(old[frame.HeaderSize:], ready.Body) {
			t.Errorf("ready for a host of 7: %x, want %x", ready.Body, old[frame.HeaderSize:])
		}
	}
}
