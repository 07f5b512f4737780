package mux

import "time"

// A peer says how much it takes in total, but not from whom it has taken what. So a payer
// whose data nobody reads could use up the credit of all. The first half of a credit for
// data is for everybody. Who wants to send beyond it takes a turn, one payer after the
// other: what the peer takes back during a turn counts as that payer's. A turn ends when the
// peer has taken as much as was sent in it, or when it has taken nothing for turnPatience.
// Then the payer must wait until the peer has taken that much; the others go on.

// turnPatience is longer than a peer needs to say that it has taken something: 5 ms, and
// the time of an emulated machine that is busy.
const turnPatience = 100 * time.Millisecond

// share is the part of the credit that is left which a turn may use. Payers that are stuck
// leave room for others, however many they are.
const share = 8

// A Payer is one of those that share a credit, with its outboxes. The Credit guards it.
type Payer struct {
	stuck bool
	base  Totals // If it is stuck: what the peer may hold before the payer has a turn again.
}

// PayAs says whose data an outbox carries. Outboxes of no payer take no turns.
func (o *Outbox) PayAs(p *Payer) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	o.payer = p
}

// turns are the part of a Credit that its lock guards.
type turns struct {
	window Totals // The most credit for data that there was: all that the peer can hold.
	holder *Payer // Whose turn it is; nil if it is nobody's.
	base   Totals // What the peer held when the turn began.
	left   Totals // What the holder may still send.
	number int    // Of the turn, since the beginning.
	timer  *time.Timer
}

func (t Totals) plus(u Totals) Totals  { return Totals{t.Bytes + u.Bytes, t.Frames + u.Frames} }
func (t Totals) minus(u Totals) Totals { return Totals{t.Bytes - u.Bytes, t.Frames - u.Frames} }
func (t Totals) over(n uint64) Totals  { return Totals{t.Bytes / n, t.Frames / n} }

// within reports whether t is at most u.
func (t Totals) within(u Totals) bool { return t.Bytes <= u.Bytes && t.Frames <= u.Frames }

// heldLocked is the data that was sent and not taken yet.
func (c *Credit) heldLocked() Totals {
	return c.turns.window.minus(c.limit[Data].minus(c.sent[Data]))
}

// mayLocked reports whether a payer may send a frame of data, for which there is credit.
func (c *Credit) mayLocked(p *Payer, frame Totals) bool {
	t, held := &c.turns, c.heldLocked()
	switch {
	case p == nil || held.plus(frame).within(t.window.over(2)):
		return true
	case t.holder == nil && p.stuck && !held.within(p.base):
		return false
	case t.holder == nil:
		t.holder, t.base = p, held
		t.left = t.window.minus(held).over(share)
		t.left = Totals{max(t.left.Bytes, frame.Bytes), max(t.left.Frames, 1)} // At least this frame.
		t.number++
		number := t.number
		t.timer = time.AfterFunc(turnPatience, func() { c.loseTurn(number) })
	case t.holder != p:
		return false
	}
	if !frame.within(t.left) {
		return false
	}
	t.left = t.left.minus(frame)
	return true
}

// takenLocked ends the turn if the peer has taken as much as was sent in it.
func (c *Credit) takenLocked() {
	t, left := &c.turns, c.limit[Data].minus(c.sent[Data])
	t.window = Totals{max(t.window.Bytes, left.Bytes), max(t.window.Frames, left.Frames)}
	switch {
	case t.holder == nil:
	case c.heldLocked().within(t.base):
		t.holder.stuck = false
		t.endLocked()
	default:
		t.timer.Reset(turnPatience)
	}
}

func (t *turns) endLocked() {
	t.timer.Stop()
	t.holder = nil
}

// loseTurn ends a turn in which the peer takes nothing.
func (c *Credit) loseTurn(number int) {
	c.mu.Lock()
	if t := &c.turns; t.holder != nil && t.number == number {
		t.holder.stuck, t.holder.base = true, t.base
		t.endLocked()
	}
	writers := c.writers
	c.mu.Unlock()
	for _, w := range writers {
		w.unblock()
	}
}
