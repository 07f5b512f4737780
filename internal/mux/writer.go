package mux

import (
	"context"
	"errors"
	"io"
	"sync"
)

// ErrClosed is what a queue returns once it, or the link behind it, has ended.
var ErrClosed = errors.New("session link closed")

const (
	// Quantum is what one session may send before the next one's turn. It is the
	// most that a virtio console port takes in one write (drivers/char/virtio_console.c,
	// port_fops_write: 32 KiB), so a turn is one write.
	Quantum = 32 << 10

	// DefaultTotal bounds what all outboxes of one Writer hold together: two full
	// quanta of 32 sessions. Where there are more, each still has a frame queued,
	// so that fairness and not the bound decides who sends.
	DefaultTotal = 32 * 2 * Quantum

	// maxBatch is how many frames one turn of the loop collects at most; beyond
	// it the lock is held longer for no fewer writes.
	maxBatch = 64
)

// A Writer is the only writer of a link.
type Writer struct {
	w     io.Writer
	stage []byte // Small frames gather here, up to one Quantum.
	wake  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	fresh   fifo[*Outbox] // Outboxes that had nothing to send until now.
	rest    fifo[*Outbox] // Outboxes that have used up a quantum.
	total   int           // Bytes in all outboxes.
	limit   int
	busy    bool // A batch is on its way out.
	drained []chan struct{}
	err     error
}

// NewWriter returns a Writer for w whose outboxes together hold at most total
// bytes (DefaultTotal if 0). Nothing is written before Run.
func NewWriter(w io.Writer, total int) *Writer {
	if total == 0 {
		total = DefaultTotal
	}
	return &Writer{
		w:     w,
		stage: make([]byte, 0, Quantum),
		limit: total,
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
}

// Run writes until Close, which makes it return nil, or until the link fails.
// Every outbox is closed then.
func (w *Writer) Run() error {
	batch := make([]queued, 0, maxBatch)
	for {
		var open bool
		if batch, open = w.next(batch[:0]); !open {
			return w.failure()
		}
		err := w.write(batch)
		for _, q := range batch {
			q.release()
		}
		clear(batch) // What has left is held no longer.
		if err != nil {
			w.fail(err)
			return err
		}
	}
}

// Close ends the Writer; what is still queued is dropped. Drain first to keep it.
func (w *Writer) Close() { w.fail(ErrClosed) }

// Done is closed when the Writer has ended.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Drain waits until everything queued so far and since has been written, or
// until ctx ends or the Writer has.
func (w *Writer) Drain(ctx context.Context) error {
	w.mu.Lock()
	if w.err != nil || (w.total == 0 && !w.busy) {
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

// next collects the frames of one turn: up to a Quantum of bytes, at least one
// frame. It waits for the first; open is false when the Writer has ended.
func (w *Writer) next(batch []queued) (_ []queued, open bool) {
	for {
		w.mu.Lock()
		w.busy = false
		batch = w.collectLocked(batch)
		w.busy = len(batch) > 0
		if !w.busy {
			w.quietLocked()
		}
		err := w.err
		w.mu.Unlock()
		if err != nil {
			return nil, false
		}
		if len(batch) > 0 {
			return batch, true
		}
		select {
		case <-w.wake:
		case <-w.done:
		}
	}
}

func (w *Writer) collectLocked(batch []queued) []queued {
	for size := 0; len(batch) < maxBatch; {
		o := w.turnLocked()
		if o == nil {
			break
		}
		f := o.queue.front()
		n := len(f.frame)
		if size > 0 && size+n > Quantum {
			break
		}
		o.queue.pop()
		o.shrinkLocked(n)
		o.deficit -= n
		size += n
		batch = append(batch, f)
	}
	return batch
}

// turnLocked returns the outbox whose turn it is, with a frame in it, or nil.
func (w *Writer) turnLocked() *Outbox {
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

// write sends a batch with as few writes as it can: small frames are gathered,
// large ones go from where they are.
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
	for _, line := range []*fifo[*Outbox]{&w.fresh, &w.rest} {
		for !line.empty() {
			o := line.pop()
			o.listed = false
			o.closeLocked()
		}
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

// quietLocked tells whoever waits in Drain that nothing is left.
func (w *Writer) quietLocked() {
	for _, quiet := range w.drained {
		close(quiet)
	}
	w.drained = nil
}

// readyLocked puts o in line and wakes the loop.
func (w *Writer) readyLocked(o *Outbox) {
	if o.listed {
		return
	}
	o.listed = true
	o.deficit = Quantum
	w.fresh.push(o)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
