package mux

import (
	"context"
	"errors"
	"io"
	"sync"
)

// ErrClosed is a queue's error after its own end or the end of its link.
var ErrClosed = errors.New("session link closed")

const (
	// Quantum is how many bytes one session may send before the next session is served.
	// It is the most that a virtio console port takes in one write
	// (drivers/char/virtio_console.c, port_fops_write: 32 KiB).
	Quantum = 32 << 10

	// DefaultTotal bounds what all outboxes of one Writer hold together: two full
	// quanta of 32 sessions. If there are more sessions, each can still queue one
	// frame, so that fairness and not the bound decides which one sends.
	DefaultTotal = 32 * 2 * Quantum

	// maxBatch bounds the frames of a batch. Larger batches hold the lock longer but
	// save no writes.
	maxBatch = 64
)

// A Writer is the only writer of a link.
type Writer struct {
	w    io.Writer
	wake chan struct{}
	done chan struct{}

	writing sync.Mutex // Held while a batch is taken and written.
	batch   []queued   // The taken frames; guarded by writing.
	stage   []byte     // Joins small frames, up to one Quantum; guarded by writing.

	mu      sync.Mutex
	fresh   fifo[*Outbox] // Outboxes that had nothing to send until now.
	rest    fifo[*Outbox] // Outboxes that have used up a quantum.
	total   int           // Bytes in all outboxes without an Allowance.
	aside   int           // Bytes in all outboxes with an Allowance.
	limit   int
	busy    bool    // A batch is being written.
	parked  bool    // See Park.
	credit  spender // nil is no limit.
	class   func(frame []byte) Class
	blocked []*Outbox // Those whose next frame waits for credit; they are listed.
	express *Outbox
	sent    uint64 // Bytes that were taken for writing.
	drained []chan struct{}
	passed  []chan struct{}
	err     error
}

// NewWriter returns a Writer for w whose outboxes together hold at most total
// bytes (DefaultTotal if 0). Run must be running before the first WriteNow; nothing
// else is written before it.
func NewWriter(w io.Writer, total int) *Writer {
	if total == 0 {
		total = DefaultTotal
	}
	return &Writer{
		w:     w,
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
		batch: make([]queued, 0, maxBatch),
		stage: make([]byte, 0, Quantum),
		limit: total,
	}
}

// Run writes until Close, which makes it return nil, or until the link fails.
// Every outbox is closed then.
func (w *Writer) Run() error {
	for {
		for w.writeBatch() {
		}
		select {
		case <-w.wake:
		case <-w.done:
			return w.failure()
		}
	}
}

// writeBatch writes one batch, and reports whether there was one.
func (w *Writer) writeBatch() bool {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.writeLocked()
}

// help writes a batch after a frame was queued, if no other goroutine is writing. That saves a
// switch to Run and back. It leaves frames beyond one batch to Run.
func (w *Writer) help() {
	if !w.writing.TryLock() {
		w.rouse()
		return
	}
	defer w.writing.Unlock()
	w.writeLocked()
	if w.waiting() {
		w.rouse()
	}
}

// writeLocked takes the frames of one batch and writes them. The caller holds writing.
func (w *Writer) writeLocked() bool {
	w.batch = w.take(w.batch[:0])
	if len(w.batch) == 0 {
		return false
	}
	err := w.write(w.batch)
	for _, q := range w.batch {
		q.release()
	}
	clear(w.batch) // Release the written frames' memory.
	w.written()
	if err != nil {
		w.fail(err)
	}
	return err == nil
}

// Close ends the Writer; what is still queued is dropped. Drain first to keep it.
func (w *Writer) Close() { w.fail(ErrClosed) }

// Done is closed when the Writer has ended.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Drain waits until everything queued so far and since has been written, or
// until ctx ends or the Writer has.
func (w *Writer) Drain(ctx context.Context) error {
	w.mu.Lock()
	if w.err != nil || (w.emptyLocked() && !w.busy) {
		defer w.mu.Unlock()
		return w.err
	}
	quiet := make(chan struct{})
	w.drained = append(w.drained, quiet)
	w.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-w.done:
		return w.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take collects the frames of one batch: up to a Quantum of bytes, at least one
// frame, none if nothing waits or the Writer has ended.
func (w *Writer) take(batch []queued) []queued {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch = w.collectLocked(batch)
	w.busy = len(batch) > 0
	if !w.busy {
		w.quietLocked()
	}
	return batch
}

// written marks the batch as written.
func (w *Writer) written() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = false
	for _, gone := range w.passed {
		close(gone)
	}
	w.passed = nil
	if w.emptyLocked() {
		w.quietLocked()
	}
}

// Passed returns a channel that is closed when the batch that is being written now has
// been written. It stays open if the link ends before that.
func (w *Writer) Passed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := make(chan struct{})
	if w.busy {
		w.passed = append(w.passed, gone)
	} else {
		close(gone)
	}
	return gone
}

// waiting reports whether there is something to write.
func (w *Writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.emptyLocked()
}

// emptyLocked reports whether nothing is queued.
func (w *Writer) emptyLocked() bool { return w.total == 0 && w.aside == 0 }

func (w *Writer) collectLocked(batch []queued) []queued {
	for size := 0; len(batch) < maxBatch; {
		o := w.firstLocked()
		if o == nil {
			break
		}
		if size > 0 && size+len(o.queue.front().frame) > Quantum {
			break
		}
		f, ok := w.affordLocked(o)
		if !ok {
			w.blockLocked(o)
			continue
		}
		n := len(f.frame)
		o.shrinkLocked(n)
		o.deficit -= n
		size += n
		w.sent += uint64(n)
		batch = append(batch, f)
	}
	return batch
}

// nextLocked returns the next outbox to serve, which has a frame, or nil.
func (w *Writer) nextLocked() *Outbox {
	for {
		from := &w.fresh
		if from.empty() {
			from = &w.rest
		}
		if from.empty() {
			return nil
		}
		o := from.front()
		switch {
		case o.queue.empty():
			from.pop()
			// One more round in the old list: a session that empties its outbox
			// and fills it again at once would otherwise stay fresh for ever and
			// starve the others.
			if from == &w.fresh && !w.rest.empty() {
				w.rest.push(o)
			} else {
				o.listed = false
			}
		case o.deficit <= 0:
			o.deficit += Quantum
			from.pop()
			w.rest.push(o)
		default:
			return o
		}
	}
}

// write sends a batch with few writes: it joins small frames, and writes large ones
// without a copy.
func (w *Writer) write(batch []queued) error {
	if len(batch) == 1 {
		return writeAll(w.w, batch[0].frame)
	}
	w.stage = w.stage[:0]
	for _, q := range batch {
		f := q.frame
		if len(w.stage)+len(f) <= cap(w.stage) {
			w.stage = append(w.stage, f...)
			continue
		}
		if err := writeAll(w.w, w.stage); err != nil {
			return err
		}
		w.stage = w.stage[:0]
		if err := writeAll(w.w, f); err != nil {
			return err
		}
	}
	return writeAll(w.w, w.stage)
}

func writeAll(w io.Writer, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := w.Write(b)
	return err
}

func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	w.err = err
	w.againLocked()
	for _, line := range []*fifo[*Outbox]{&w.fresh, &w.rest} {
		for !line.empty() {
			o := line.pop()
			o.listed = false
			o.closeLocked()
		}
	}
	if w.express != nil {
		w.express.closeLocked()
	}
	close(w.done)
}

func (w *Writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(w.err, ErrClosed) {
		return nil
	}
	return w.err
}

// quietLocked wakes goroutines in Drain when all outboxes are empty.
func (w *Writer) quietLocked() {
	for _, quiet := range w.drained {
		close(quiet)
	}
	w.drained = nil
}

// readyLocked lists o for the next round. It reports whether o was not listed before.
func (w *Writer) readyLocked(o *Outbox) bool {
	if o == w.express {
		return true
	}
	if o.blocked { // What has come may be what there is credit for.
		w.againLocked()
		return true
	}
	if o.listed {
		return false
	}
	o.listed = true
	o.deficit = Quantum
	w.fresh.push(o)
	return true
}

// rouse wakes Run.
func (w *Writer) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
