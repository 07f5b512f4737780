package mux

import "sync"

// DefaultOutbox is how much one session may queue: two quanta, so that the session
// fills one while the other is written. It is as much as a pipe would hold for a slow
// host.
const DefaultOutbox = 2 * Quantum

// An Outbox is one session's bounded queue towards the link. Its methods may be
// called from several goroutines; frames leave in the order of their Sends.
//
// The ways to queue a frame differ in what they do without room, and in who writes:
//
//	Send, SendBuffer     wait for room
//	SendUntil            waits for room until a channel is closed
//	TrySend              refuses the frame
//	Put                  queues the frame past the bound
//	WriteNow, WriteLast  as Put, and the caller writes it if no other goroutine is writing
type Outbox struct {
	w        *Writer
	limit    int
	kept     *Allowance // Bound of the queue in place of the Writer's total; nil means the total.
	room     sync.Cond  // On w.mu: signalled when the queue has shrunk or is closed.
	queue    fifo[queued]
	bytes    int
	deficit  int
	listed   bool // In w.fresh, w.rest or w.blocked.
	blocked  bool // In w.blocked.
	finished bool // No more frames are accepted.
	payer    *Payer

	first [1]queued // The queue's memory for the one frame that most outboxes ever hold.
}

// Outbox returns a new session's queue of at most limit bytes (DefaultOutbox if
// 0). A frame larger than that is accepted when nothing else is queued.
func (w *Writer) Outbox(limit int) *Outbox {
	o := &Outbox{}
	w.Prepare(o, limit)
	return o
}

// Prepare makes o, a zero Outbox that is part of a session, what Outbox returns.
func (w *Writer) Prepare(o *Outbox, limit int) {
	if limit == 0 {
		limit = DefaultOutbox
	}
	o.w, o.limit = w, limit
	o.queue.items = o.first[:0]
	o.room.L = &w.mu
}

// An Allowance bounds what several outboxes of one Writer hold together. It is guarded
// by that Writer.
type Allowance struct {
	limit, bytes int

	low   int           // See Below.
	below chan struct{} // Closed when no more than low bytes are held; nil if nobody waits.
}

// Below returns a channel that is closed when the outboxes of an Allowance hold no more
// than low bytes; nil if they hold no more now. All callers that wait at the same time
// must use the same low.
func (w *Writer) Below(a *Allowance, low int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.bytes <= low {
		return nil
	}
	if a.low = low; a.below == nil {
		a.below = make(chan struct{})
	}
	return a.below
}

// countLocked adds n bytes to what is held.
func (a *Allowance) countLocked(n int) {
	a.bytes += n
	if a.below != nil && a.bytes <= a.low {
		close(a.below)
		a.below = nil
	}
}

// NewAllowance returns one of limit bytes.
func NewAllowance(limit int) *Allowance { return &Allowance{limit: limit} }

// Keeping returns an outbox of at most limit bytes for many short frames. They count
// against all and not against the Writer's total, so neither they nor the other
// outboxes take room from each other.
func (w *Writer) Keeping(limit int, all *Allowance) *Outbox {
	o := w.Outbox(limit)
	o.kept = all
	return o
}

// keepChunk is the size of the memory in which short frames are joined. A queue entry
// of its own costs as much as the shortest frame.
const keepChunk = 4 << 10

// gatherLocked appends a frame to the last one of an outbox with an Allowance, if both
// are short.
func (o *Outbox) gatherLocked(frame []byte) bool {
	last := o.queue.tail()
	if o.kept == nil || last == nil || len(last.frame)+len(frame) > keepChunk {
		return false
	}
	if cap(last.frame) < keepChunk {
		last.frame = append(make([]byte, 0, keepChunk), last.frame...)
	}
	last.frame = append(last.frame, frame...)
	return true
}

// A queued is a queued frame, with its lent buffer if it has one.
type queued struct {
	frame []byte
	from  *Buffer
}

func (q queued) release() {
	if q.from != nil {
		q.from.Release()
	}
}

// Send queues a whole frame, which then belongs to the queue. It waits while
// the queue is full and returns [ErrClosed] after Close, Discard or the end of
// the link.
func (o *Outbox) Send(frame []byte) error {
	_, err := o.send(queued{frame: frame}, nil)
	return err
}

// SendBuffer is Send for a frame in a lent buffer. The buffer returns to its pool when
// the frame is written, or at once after an error.
func (o *Outbox) SendBuffer(b *Buffer, frame []byte) error {
	_, err := o.send(queued{frame, b}, nil)
	return err
}

// SendUntil is Send that gives up when stop is closed: taken is false then, and the
// frame still belongs to the caller. A nil stop never closes.
func (o *Outbox) SendUntil(stop <-chan struct{}, frame []byte) (taken bool, err error) {
	return o.send(queued{frame: frame}, stop)
}

func (o *Outbox) send(q queued, stop <-chan struct{}) (taken bool, err error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.waitsLocked(len(q.frame)) {
		o.awaitLocked(len(q.frame), stop)
	}
	if o.waitsLocked(len(q.frame)) {
		return false, nil
	}
	return true, o.queueLocked(q)
}

// waitsLocked reports whether a frame of n bytes has to wait for room.
func (o *Outbox) waitsLocked(n int) bool { return !o.endedLocked() && o.fullLocked(n) }

// awaitLocked waits for room for n bytes, for the end, or for stop.
func (o *Outbox) awaitLocked(n int, stop <-chan struct{}) {
	stopped := false // Guarded by w.mu.
	if stop != nil {
		over := make(chan struct{})
		defer close(over)
		go func() {
			select {
			case <-stop:
			case <-over:
			}
			o.w.mu.Lock()
			defer o.w.mu.Unlock()
			stopped = true
			o.room.Broadcast()
		}()
	}
	for !stopped && o.waitsLocked(n) {
		o.room.Wait()
	}
}

// Put queues a frame without waiting and without regard to the bound. It is for callers
// that must not wait, and only for the frame that ends a session and for answers whose
// number the peer's frames bound.
func (o *Outbox) Put(frame []byte) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return o.queueLocked(queued{frame: frame})
}

// WriteNow is Put for a caller that may wait for the link: if no other goroutine is
// writing, WriteNow writes the frame itself before it returns.
func (o *Outbox) WriteNow(frame []byte) error { return o.write(frame, false) }

// WriteLast is WriteNow for an outbox's last frame: the outbox refuses further ones.
func (o *Outbox) WriteLast(frame []byte) error { return o.write(frame, true) }

func (o *Outbox) write(frame []byte, last bool) error {
	o.w.mu.Lock()
	_, err := o.listLocked(queued{frame: frame})
	if last {
		o.finishLocked()
	}
	o.w.mu.Unlock()
	if err == nil {
		o.w.help()
	}
	return err
}

// Over reports whether the last frame has been taken for writing. Every frame that is
// queued later, in any outbox, leaves after it.
func (o *Outbox) Over() bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return o.finished && o.bytes == 0
}

// TrySend queues a frame if there is room and reports whether it did.
func (o *Outbox) TrySend(frame []byte) bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return !o.fullLocked(len(frame)) && o.queueLocked(queued{frame: frame}) == nil
}

// Drain waits until the outbox is empty.
func (o *Outbox) Drain() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for o.bytes > 0 {
		o.room.Wait()
	}
}

// Queued returns the number of bytes in the outbox.
func (o *Outbox) Queued() int {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return o.bytes
}

// Close refuses further frames; those queued still leave.
func (o *Outbox) Close() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	o.finishLocked()
}

func (o *Outbox) finishLocked() {
	o.finished = true
	o.room.Broadcast()
}

// Discard drops the queued frames and refuses further ones, for a peer that has gone.
func (o *Outbox) Discard() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	o.closeLocked()
}

func (o *Outbox) closeLocked() {
	for !o.queue.empty() {
		o.queue.pop().release()
	}
	o.shrinkLocked(o.bytes)
	o.finished = true
}

func (o *Outbox) endedLocked() bool { return o.finished || o.w.err != nil }

// fullLocked reports whether n more bytes must wait. An empty outbox always takes a
// frame; otherwise its session could wait for ever for the others.
func (o *Outbox) fullLocked(n int) bool {
	if o.kept != nil {
		return o.bytes > 0 && (o.bytes+n > o.limit || o.kept.bytes+n > o.kept.limit)
	}
	return o.bytes > 0 && (o.bytes+n > o.limit || o.w.total+n > o.w.limit)
}

// queueLocked queues a frame for Run to write.
func (o *Outbox) queueLocked(q queued) error {
	fresh, err := o.listLocked(q)
	if fresh {
		o.w.rouse()
	}
	return err
}

// listLocked queues a frame without waking Run. If fresh is true, the outbox was not
// listed before and the caller must wake Run.
func (o *Outbox) listLocked(q queued) (fresh bool, err error) {
	if o.endedLocked() {
		q.release()
		return false, ErrClosed
	}
	if !o.gatherLocked(q.frame) {
		o.queue.push(q)
	}
	o.countLocked(len(q.frame))
	return o.w.readyLocked(o), nil
}

func (o *Outbox) shrinkLocked(n int) {
	o.countLocked(-n)
	o.room.Broadcast()
}

// countLocked adds n to the number of queued bytes.
func (o *Outbox) countLocked(n int) {
	o.bytes += n
	if o.kept != nil {
		o.kept.countLocked(n)
		o.w.aside += n
	} else {
		o.w.total += n
	}
}
