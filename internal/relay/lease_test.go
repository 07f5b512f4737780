package relay_test

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// leased sets a relay up for a guest that acknowledges the ends of clients.
func leased(w *world, cfg *relay.Config) {
	w.t.Helper()
	cfg.Words.Lease = func(start, end uint32, which relay.Incarnation) []byte {
		return lease(wire.LeaseGranted, start, end, which)
	}
	cfg.Words.Released = func(f frame.Frame) (relay.Incarnation, bool) {
		l, err := wire.DecodeLease(f.Body)
		return l.Incarnation, err == nil && l.Event == wire.LeaseReleased
	}
}

// twoPorts is leased, with a second port.
func twoPorts(w *world, cfg *relay.Config) {
	leased(w, cfg)
	near, far := net.Pipe()
	cfg.Records, w.records = near, newPeer(w.t, far)
}

func lease(event wire.LeaseEvent, start, end uint32, which relay.Incarnation) []byte {
	return wire.AppendLease(nil, wire.Lease{Event: event, IDStart: start, IDEndExclusive: end, Incarnation: which})
}

// lessee is a client, and the incarnation that the guest was told.
func (w *world) lessee() (*peer, relay.Incarnation) {
	w.t.Helper()
	c := w.connect()
	f, err := w.guest.frames.Next()
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := wire.DecodeLease(f.Body)
	if err != nil || !wire.IsLease(f) || l.Event != wire.LeaseGranted || l.IDStart != c.start || l.IDEndExclusive != c.end {
		w.t.Fatalf("the guest is told %x", f.Body)
	}
	return c, l.Incarnation
}

// left reads that the guest is told of the end of a lease, and nothing else.
func (w *world) left(c *peer, which relay.Incarnation) {
	w.t.Helper()
	w.guest.expect(words(w.t).Left(c.start, c.end, &which))
	w.guest.silent()
}

// Another client gets a slot only after the guest has acknowledged the end of its
// lease; no other frame of the guest suffices.
//
//holds:wire 13: a relay: the lease before the client's first frame, the range free at the acknowledgement and not before; a guest that never gives one
func TestLease(t *testing.T) {
	playWith(t, leased, func(w *world) {
		c, which := w.lessee()
		w.ask(c, c.start, &wire.ExecRequest{Cmd: "sleep"}) // It is the guest's to end.
		c.leave()
		w.left(c, which)
		foreign := which
		foreign[3]++
		for _, b := range [][]byte{
			message(t, c.start, &wire.ExecExited{Code: -1}),
			message(t, c.end-1, &wire.Pong{}), // Nobody has asked.
			lease(wire.LeaseReleased, c.start, c.end, foreign),
			lease(wire.LeaseReleased, c.start, c.end, relay.Incarnation{}),
			lease(wire.LeaseGranted, c.start, c.end, which),
			raw(0, 0, "MSBL"),
		} {
			w.guest.send(b)
		}
		second, another := w.lessee()
		if second.start == c.start || another == which {
			t.Errorf("the slot is used again before the guest has let it go: ids from %d on", second.start)
		}
		w.guest.send(lease(wire.LeaseReleased, c.start, c.end, which))
		synctest.Wait()
		third, again := w.lessee()
		if third.start != c.start || again == which {
			t.Errorf("got ids from %d on as %x, want those from %d on", third.start, again, c.start)
		}
	})
}

// An end that is acknowledged before it has come is none.
//
//holds:wire 13: a relay: the lease before the client's first frame, the range free at the acknowledgement and not before; a guest that never gives one
func TestEarlyRelease(t *testing.T) {
	playWith(t, leased, func(w *world) {
		c, which := w.lessee()
		w.guest.send(lease(wire.LeaseReleased, c.start, c.end, which))
		w.hear(c)
		w.guest.send(raw(c.start, 0, "still there"))
		c.expect(raw(c.start, 0, "still there"))
	})
}

// A guest that never acknowledges loses the slot, which is said once, and clients
// are refused at last; a late acknowledgement gives it back.
//
//holds:wire 13: a relay: the lease before the client's first frame, the range free at the acknowledgement and not before; a guest that never gives one
func TestLeaseWithoutEnd(t *testing.T) {
	playWith(t, leased, func(w *world) {
		var all []*peer
		var leases []relay.Incarnation
		for range frame.Slots {
			c, which := w.lessee()
			all, leases = append(all, c), append(leases, which)
		}
		all[5].leave()
		w.left(all[5], leases[5])
		time.Sleep(2 * relay.SettleTime)
		if _, err := w.Connect(); err == nil {
			t.Error("a range is used again that the guest still has")
		}
		if lines := w.logged(); len(lines) != 1 || !strings.Contains(lines[0], "acknowledges") {
			t.Errorf("logged %q", lines)
		}
		w.guest.send(lease(wire.LeaseReleased, all[5].start, all[5].end, leases[5]))
		synctest.Wait()
		if c, _ := w.lessee(); c.start != all[5].start {
			t.Errorf("got ids from %d on, want those from %d on", c.start, all[5].start)
		}
	})
}

// Records go by the second port, with the incarnation before them, and nothing else
// does.
//
//holds:wire 14: records by the second port alone, with the right incarnation; both orders of everything
func TestSecondPort(t *testing.T) {
	playWith(t, twoPorts, func(w *world) {
		a, first := w.lessee()
		b, second := w.lessee()
		for _, c := range []struct {
			*peer
			of relay.Incarnation
		}{{a, first}, {b, second}} {
			record, other := raw(c.start+1, frame.Bulk, "a record"), raw(c.start+1, 0, "no record")
			go func() {
				c.send(record)
				c.send(other)
			}()
			w.records.prefixed(c.of, record)
			w.guest.expect(other)
			go w.records.send(append(c.of[:], record...))
			c.expect(record)
			go w.guest.send(other)
			c.expect(other)
		}
		w.guest.silent()
		w.records.silent()
	})
}

// prefixed reads a record that must be this one.
func (p *peer) prefixed(of relay.Incarnation, record []byte) {
	p.t.Helper()
	var got relay.Incarnation
	if err := p.frames.Raw(got[:]); err != nil || got != of {
		p.t.Fatalf("incarnation %x, %v; want %x", got, err, of)
	}
	p.expect(record)
}

// Records of a client that has left are dropped, and so are frames that are no records.
//
//holds:wire 14: slips, stale records, ends
func TestSecondPortStale(t *testing.T) {
	playWith(t, twoPorts, func(w *world) {
		a, first := w.lessee()
		b, second := w.lessee()
		a.leave()
		w.left(a, first)
		w.guest.send(lease(wire.LeaseReleased, a.start, a.end, first))
		synctest.Wait()
		c, third := w.lessee()
		if c.start != a.start {
			t.Fatalf("got ids from %d on", c.start)
		}
		stale := raw(c.start, frame.Bulk, "stale")
		for of, record := range map[relay.Incarnation][]byte{
			first:  stale,
			second: stale, // It has other ids.
			third:  raw(c.start, 0, "no record"),
			{}:     stale,
			{1}:    raw(0, frame.Bulk, "of nobody"),
		} {
			w.records.send(append(of[:], record...))
		}
		last := raw(c.start, frame.Bulk, "last")
		w.records.send(append(third[:], last...))
		c.expect(last)
		b.silent()
	})
}

// The end of either port is the end of both.
//
//holds:wire 14: slips, stale records, ends
func TestSecondPortEnds(t *testing.T) {
	for name, end := range map[string]func(*world){
		"port":           func(w *world) { w.guest.leave() },
		"second port":    func(w *world) { w.records.leave() },
		"bad length":     func(w *world) { w.records.send(bytes.Repeat([]byte{0xff}, 16+frame.HeaderSize)) },
		"inside a frame": func(w *world) { w.records.send(make([]byte, 12)); w.records.leave() },
	} {
		t.Run(name, func(t *testing.T) {
			playWith(t, twoPorts, func(w *world) {
				c, _ := w.lessee()
				end(w)
				<-w.Done()
				c.gone()
				synctest.Wait()
				for _, p := range []*peer{w.guest, w.records} {
					if _, err := p.conn.Write([]byte{0}); err == nil {
						t.Error("a port is still open")
					}
				}
			})
		})
	}
}
