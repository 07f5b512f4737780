package mux

import "sync"

// A Class is what a frame counts as against a peer's credit.
type Class uint8

// The classes: control frames wait for control credit alone, and may overtake data
// that waits for its own. Free frames are not counted.
const (
	Control Class = iota
	Data
	Free
)

// Totals are running totals of a class of frames.
type Totals struct{ Bytes, Frames uint64 }

// A Credit is how much a peer takes of each class (protocol section 15.1), by all the
// Writers that share it. Limits are totals since the beginning and never fall.
type Credit struct {
	mu      sync.Mutex
	sent    [Free]Totals
	limit   [Free]Totals
	writers []*Writer
	turns   turns
}

// A spender is a Credit. Programs that make none, as the guest's, do not link its code.
type spender interface {
	spend(p *Payer, class Class, n int) bool
}

// NewCredit returns a credit with its first limits.
func NewCredit(control, data Totals) *Credit {
	return &Credit{limit: [Free]Totals{Control: control, Data: data}, turns: turns{window: data}}
}

// Resume begins with what another Credit has sent.
func (c *Credit) Resume(control, data Totals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = [Free]Totals{Control: control, Data: data}
}

// Share makes a Writer keep to the credit, from the next frame that leaves on. class tells
// what a whole frame is.
func (c *Credit) Share(w *Writer, class func(frame []byte) Class) {
	w.mu.Lock()
	w.credit, w.class = c, class
	w.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writers = append(c.writers, w)
}

// Sent is what has been taken to be written.
func (c *Credit) Sent() (control, data Totals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[Control], c.sent[Data]
}

// Grant moves the limits on, and lets leave what has waited for that.
func (c *Credit) Grant(control, data Totals) {
	c.mu.Lock()
	for class, t := range [Free]Totals{Control: control, Data: data} {
		l := &c.limit[class]
		l.Bytes, l.Frames = max(l.Bytes, t.Bytes), max(l.Frames, t.Frames)
	}
	c.takenLocked()
	writers := c.writers
	c.mu.Unlock()
	for _, w := range writers {
		w.unblock()
	}
}

// spend counts a payer's frame of n bytes, if there is credit for it.
func (c *Credit) spend(p *Payer, class Class, n int) bool {
	if class == Free {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	frame := Totals{uint64(n), 1}
	next := c.sent[class].plus(frame)
	if !next.within(c.limit[class]) || class == Data && !c.mayLocked(p, frame) {
		return false
	}
	c.sent[class] = next
	return true
}

// affordLocked takes the outbox's next frame for which there is credit: the first, or the
// first control frame if that is data. ok is false if there is none.
func (w *Writer) affordLocked(o *Outbox) (q queued, ok bool) {
	if w.credit == nil || o == w.express {
		return o.queue.pop(), true
	}
	for i := range o.queue.len() {
		f := o.queue.at(i).frame
		class := w.class(f)
		if i > 0 && class == Data {
			continue
		}
		if w.credit.spend(o.payer, class, len(f)) {
			return o.queue.take(i), true
		}
		if class != Data {
			break
		}
	}
	return queued{}, false
}

// blockLocked takes the first outbox out of its list until there is more credit.
func (w *Writer) blockLocked(o *Outbox) {
	from := &w.fresh
	if from.empty() || from.front() != o {
		from = &w.rest
	}
	from.pop()
	o.blocked = true
	w.blocked = append(w.blocked, o)
}

// unblock puts the outboxes that have waited for credit in line again.
func (w *Writer) unblock() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.blocked) == 0 {
		return
	}
	w.againLocked()
	w.rouse()
}

func (w *Writer) againLocked() {
	for _, o := range w.blocked {
		o.blocked = false
		w.rest.push(o)
	}
	clear(w.blocked)
	w.blocked = w.blocked[:0]
}

// DropData drops the frames of data that wait in an outbox of a Writer with credit. Their
// senders have gone, and later frames may overtake such frames.
func (o *Outbox) DropData() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.w.credit == nil {
		return
	}
	for i := 0; i < o.queue.len(); {
		q := o.queue.at(i)
		if o.w.class(q.frame) != Data {
			i++
			continue
		}
		o.queue.take(i)
		o.shrinkLocked(len(q.frame))
		q.release()
	}
}
