package relay_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// begun is a client with commands on its first n ids.
func (w *world) begun(n int) *peer {
	w.t.Helper()
	c := w.connect()
	for i := range n {
		w.ask(c, c.start+uint32(i), &wire.ExecRequest{Cmd: "yes"})
	}
	return c
}

// ask has a client begin a session, of which the guest hears.
func (w *world) ask(c *peer, id uint32, m wire.Message) {
	w.t.Helper()
	b := message(w.t, id, m)
	go c.send(b)
	w.guest.expect(b)
	synctest.Wait()
}

// What the commands of a client say that does not read is kept back in the guest,
// all of them and no one else's, until it has read.
func TestSlowClientHoldsItsCommands(t *testing.T) {
	play(t, func(w *world) {
		slow, quick := w.begun(2), w.begun(1)
		// The client takes one, and two more are just not too much.
		flood := raw(slow.start, 0, strings.Repeat("y", 1<<19-frame.HeaderSize))
		for range 3 {
			w.guest.silent()
			w.guest.send(flood)
		}
		w.guest.silent()
		w.guest.send(flood)
		w.guest.expectAll(words(t).Hold(slow.start), words(t).Hold(slow.start+1))
		w.guest.send(flood) // It was on its way.
		w.guest.silent()

		w.ask(slow, slow.start+2, &wire.ExecRequest{Cmd: "late"})
		w.guest.expect(words(t).Hold(slow.start + 2))
		w.ask(slow, slow.start+3, &wire.FSRequest{Op: &wire.OpStat{Path: "/"}})
		w.ask(quick, quick.start+1, &wire.ExecRequest{Cmd: "other"})
		w.guest.silent()

		slow.expect(flood, flood, flood, flood, flood)
		w.guest.expectAll(words(t).Go(slow.start), words(t).Go(slow.start+1), words(t).Go(slow.start+2))
		w.guest.silent()
	})
}

// A client that takes nothing for a moment is slow long before one that takes some.
func TestStuckClientHoldsItsCommands(t *testing.T) {
	play(t, func(w *world) {
		stuck, _ := w.begun(1), w.begun(1)
		flood := raw(stuck.start, 0, strings.Repeat("y", 100<<10))
		w.guest.send(flood)
		w.guest.send(flood)
		w.guest.silent()
		time.Sleep(20 * time.Millisecond) // Of the bubble's time.
		w.guest.send(flood)
		w.guest.expect(words(t).Hold(stuck.start))
		stuck.expect(flood, flood)
		w.guest.expect(words(t).Go(stuck.start))
		stuck.expect(flood)
		w.guest.silent()
	})
}

// A client that leaves while its commands wait does not keep them from ending.
func TestSlowClientLeaves(t *testing.T) {
	play(t, func(w *world) {
		slow, quick := w.begun(1), w.begun(1)
		for range 4 {
			w.guest.send(raw(slow.start, 0, strings.Repeat("y", 1<<19)))
		}
		w.guest.expect(words(t).Hold(slow.start))
		slow.leave()
		w.guest.expect(words(t).Go(slow.start), words(t).Kill(slow.start))
		w.guest.send(message(t, slow.start, &wire.ExecExited{Code: -1}))
		w.guest.expect(left(t, slow.start, slow.end), words(t).Probe(slow.end-1))
		quick.leave()
		w.guest.expect(words(t).Kill(quick.start))
	})
}
