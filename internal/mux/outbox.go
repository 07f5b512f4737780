package mux

import "sync"

// DefaultOutbox is how much one session may have queued: two quanta, so that the
// session fills one while the other is written, and a slow host holds no more of
// it than a pipe would.
const DefaultOutbox = 2 * Quantum

// An Outbox is one session's bounded queue towards the link. Its methods may be
// called from several goroutines; frames leave in the order of their Sends.
type Outbox struct {
	w        *Writer
	limit    int
	kept     *Allowance // What the queue counts against in place of the Writer's total; nil for that.
	room     sync.Cond  // On w.mu: signalled when the queue has shrunk or closed.
	queue    fifo[queued]
	bytes    int
	deficit  int
	listed   bool // In w.fresh or w.rest.
	finished bool // Nothing more is accepted.
}

// Outbox returns a new session's queue of at most limit bytes (DefaultOutbox if
// 0). A frame larger than that is accepted when nothing else is queued.
func (w *Writer) Outbox(limit int) *Outbox {
	if limit == 0 {
		limit = DefaultOutbox
	}
	o := &Outbox{w: w, limit: limit}
	o.room.L = &w.mu
	return o
}

// An Allowance bounds what several outboxes of one Writer hold together. It is guarded
// by that Writer.
type Allowance struct {
	limit, bytes int

	low   int           // See Below.
	below chan struct{} // Closed when no more than low bytes are held; nil if nobody waits.
}

// Below returns a channel that is closed when the outboxes of an Allowance hold no more
// than low bytes, nil if they do not now. All who wait must ask for the same.
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

// Keeping returns an outbox for many short frames, of at most limit bytes, that count
// against all and not against the Writer's total: they find room however much else
// waits, and leave the room of everything else as it is.
func (w *Writer) Keeping(limit int, all *Allowance) *Outbox {
	o := w.Outbox(limit)
	o.kept = all
	return o
}

// keepChunk is how many short frames gather in one piece of memory: the queue's own
// cost for each is as much as the shortest.
const keepChunk = 4 << 10

// gatherLocked puts a frame after the last one of an outbox that keeps many, if both
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

// A queued is a frame on its way, and the lent buffer that it lies in, if any.
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

// SendBuffer is Send for a frame that lies in a lent buffer, which goes back to
// its pool when the frame has left, or at once if there is an error.
func (o *Outbox) SendBuffer(b *Buffer, frame []byte) error {
	_, err := o.send(queued{frame, b}, nil)
	return err
}

// SendUntil is Send that gives up once stop is closed: taken is false then, and
// the frame still the caller's. A nil stop never closes.
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

// Put queues a frame without waiting, whatever the bound says. It is for the
// one frame that ends a session and for answers whose number is bounded by
// what the peer sent, when the caller must not wait.
func (o *Outbox) Put(frame []byte) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return o.queueLocked(queued{frame: frame})
}

// PutNow is Put for who may wait for the link: if nobody else writes, the frame is
// written before it returns.
func (o *Outbox) PutNow(frame []byte) error { return o.putNow(frame, false) }

// PutLast is PutNow for an outbox's last frame: it refuses further ones.
func (o *Outbox) PutLast(frame []byte) error { return o.putNow(frame, true) }

func (o *Outbox) putNow(frame []byte, last bool) error {
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

// Over reports whether the last frame has been taken to be written: whatever is
// queued anywhere from now on leaves behind it.
func (o *Outbox) Over() bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return o.finished && o.bytes == 0
}

// Offer queues a frame if there is room and reports whether it did.
func (o *Outbox) Offer(frame []byte) bool {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return !o.fullLocked(len(frame)) && o.queueLocked(queued{frame: frame}) == nil
}

// Drain waits until nothing is queued any more.
func (o *Outbox) Drain() {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for o.bytes > 0 {
		o.room.Wait()
	}
}

// Queued is how many bytes wait in the outbox.
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

// Discard drops what is queued and refuses further frames: the peer that it was
// for has gone.
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

// fullLocked reports whether n more bytes must wait. An empty outbox always
// takes a frame: its session could otherwise wait for others for ever.
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

// listLocked queues a frame, and tells nobody. fresh says that nothing was queued
// before, so that somebody has to be told.
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

// countLocked adds n bytes to what is queued.
func (o *Outbox) countLocked(n int) {
	o.bytes += n
	if o.kept != nil {
		o.kept.countLocked(n)
		o.w.aside += n
	} else {
		o.w.total += n
	}
}
