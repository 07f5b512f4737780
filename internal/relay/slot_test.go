package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// start has a client begin a command on an id.
func (w *world) start(c *peer, id uint32) {
	w.t.Helper()
	b := message(w.t, id, &wire.ExecRequest{Cmd: "true"})
	go c.send(b)
	w.guest.expect(b)
}

// taken is which slot the next client gets. It leaves at once, and properly.
func (w *world) taken() int {
	w.t.Helper()
	c := w.connect()
	w.depart(c)
	slot, _ := frame.SlotOf(c.start)
	return slot
}

// depart is a departure with nothing left behind.
func (w *world) depart(c *peer) {
	w.t.Helper()
	c.leave()
	w.guest.expect(left(w.t, c.start, c.end), words(w.t).Probe(c.end-1))
	w.guest.send(message(w.t, c.end-1, &wire.Pong{}))
	synctest.Wait()
}

// A slot is used again when its commands have ended and the guest has answered
// what came after the news.
func TestDeparture(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		w.start(c, 5)
		w.start(c, 6)
		w.start(c, 7)
		stat := message(t, 8, &wire.TCPConnect{Host: "localhost", Port: 1})
		go c.send(stat)
		w.guest.expect(stat)
		w.guest.send(message(t, 6, &wire.ExecExited{}))
		w.guest.send(message(t, 7, &wire.ExecFailed{}))
		c.expect(message(t, 6, &wire.ExecExited{}), message(t, 7, &wire.ExecFailed{}))
		c.leave()
		w.guest.expect(words(t).Kill(5))
		w.guest.silent()
		if n := w.taken(); n != 1 {
			t.Errorf("slot %d is given away while 0 has a command", n)
		}
		w.guest.send(message(t, 5, &wire.ExecStdout{Data: []byte("late")}))
		w.guest.send(message(t, 5, &wire.ExecExited{Code: -1}))
		w.guest.expect(left(t, c.start, c.end), words(t).Probe(c.end-1))
		if n := w.taken(); n != 1 {
			t.Errorf("slot %d is given away before the guest has answered", n)
		}
		w.guest.send(message(t, c.end-1, &wire.Pong{}))
		synctest.Wait()
		next := w.connect()
		if next.start != c.start {
			t.Errorf("the slot is not used again: ids from %d on", next.start)
		}
		next.silent()
	})
}

// A second request on an id that is in use is refused by a frame that looks like
// the first one's end.
func TestDepartureAfterRefusedRequest(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		w.start(c, 5)
		w.start(c, 5)
		w.guest.send(message(t, 5, &wire.ExecFailed{Message: "in use"}))
		c.expect(message(t, 5, &wire.ExecFailed{Message: "in use"}))
		c.leave()
		w.guest.expect(words(t).Kill(5))
	})
}

// A guest that does not end a client's commands still gets the frame that the client
// has left. The slot waits, and is used only if there is no other.
func TestStubbornCommand(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		w.start(c, 5)
		c.leave()
		w.guest.expect(words(t).Kill(5))
		start := time.Now()
		w.guest.expect(left(t, c.start, c.end), words(t).Probe(c.end-1))
		if took := time.Since(start); took != relay.KillGrace {
			t.Errorf("told after %v", took)
		}
		w.guest.send(message(t, c.end-1, &wire.Pong{}))
		time.Sleep(2 * relay.SettleTime)
		var others []*peer
		for range frame.Slots - 1 {
			o := w.connect()
			if o.start == c.start {
				t.Fatal("the slot is used although another is free")
			}
			others = append(others, o)
		}
		if lines := w.logged(); len(lines) != 0 {
			t.Errorf("logged %q", lines)
		}
		if last := w.connect(); last.start != c.start {
			t.Errorf("ids from %d on", last.start)
		}
		if lines := w.logged(); len(lines) != 1 {
			t.Errorf("logged %q, want that the slot is used again", lines)
		}
		w.depart(others[0])
	})
}

// What comes too late frees the slot all the same.
func TestLateEnd(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		w.start(c, 5)
		c.leave()
		w.guest.expect(words(t).Kill(5), left(t, c.start, c.end), words(t).Probe(c.end-1))
		time.Sleep(2 * relay.SettleTime)
		w.guest.send(message(t, 5, &wire.ExecExited{}))
		w.guest.send(message(t, c.end-1, &wire.Pong{}))
		synctest.Wait()
		if n := w.taken(); n != 0 {
			t.Errorf("got slot %d", n)
		}
	})
}

// The answer to a probe looks like the answer to the client's own request on that id.
func TestDepartureFromTheLastID(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		ping := message(t, c.end-1, &wire.Ping{})
		go c.send(ping)
		w.guest.expect(ping)
		c.leave()
		w.guest.expect(left(t, c.start, c.end))
		w.guest.silent()
		w.guest.send(message(t, c.end-1, &wire.Pong{}))
		synctest.Wait()
		next := w.connect()
		if next.start == c.start {
			t.Error("the slot is used at once")
		}
	})
}

func TestSlots(t *testing.T) {
	play(t, func(w *world) {
		var all []*peer
		for n := range frame.Slots {
			c := w.connect()
			if start, end := frame.SlotRange(n); c.start != start || c.end != end {
				t.Fatalf("client %d has ids %d-%d, want %d-%d", n, c.start, c.end, start, end)
			}
			all = append(all, c)
		}
		if _, err := w.Connect(); err == nil {
			t.Error("one client too many is served")
		}
		w.depart(all[77])
		w.depart(all[3])
		for _, want := range []int{3, 77} {
			c := w.connect()
			if slot, _ := frame.SlotOf(c.start); slot != want {
				t.Errorf("got slot %d, want the lowest free one, %d", slot, want)
			}
		}
		ping := raw(all[127].end-1, 0, "ping")
		go all[127].send(ping)
		w.guest.expect(ping)
	})
}

// The unfinished commands of one client are bounded.
func TestTooManyCommands(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		for n := range uint32(relay.MaxCommands) {
			w.start(c, c.start+n)
		}
		c.send(message(t, c.start+relay.MaxCommands, &wire.ExecRequest{Cmd: "one too many"}))
		killed := map[uint32]bool{}
		for range relay.MaxCommands {
			f, err := w.guest.frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			killed[f.ID] = true
		}
		if len(killed) != relay.MaxCommands {
			t.Errorf("%d commands are signalled", len(killed))
		}
		if lines := w.logged(); len(lines) != 1 {
			t.Errorf("logged %q", lines)
		}
		w.guest.expect(left(t, c.start, c.end))
	})
}
