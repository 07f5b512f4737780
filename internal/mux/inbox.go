package mux

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrFull is what [Inbox.Push] returns when neither memory nor storage has room.
// The bytes that it refused are lost to the session, which is told so.
var ErrFull = errors.New("session input exceeds its limit")

// A Storage holds what an inbox cannot keep in memory; *os.File is one. The
// Inbox closes it.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// A Budget bounds the memory of all inboxes that share it.
type Budget struct{ left atomic.Int64 }

// NewBudget returns a Budget of n bytes.
func NewBudget(n int64) *Budget {
	b := new(Budget)
	b.left.Store(n)
	return b
}

// Left is how many bytes nobody holds.
func (b *Budget) Left() int64 { return b.left.Load() }

func (b *Budget) take(n int) bool {
	if b.left.Add(-int64(n)) >= 0 {
		return true
	}
	b.left.Add(int64(n))
	return false
}

func (b *Budget) give(n int) { b.left.Add(int64(n)) }

// An InboxConfig says what an [Inbox] may hold.
type InboxConfig struct {
	Memory  int                     // Bytes in memory, at most.
	Budget  *Budget                 // Shared with other inboxes; nil is no shared bound.
	Storage func() (Storage, error) // Opens the overflow when it is first needed; nil is none.
	Stored  int64                   // Bytes in the overflow, at most.

	Pauses *PauseBudget // Of Pace, shared with other inboxes; nil is no shared bound.
}

// An Inbox is what has arrived for one session and was not yet taken. Push
// never waits for the session; it may wait for the storage's disk.
type Inbox struct {
	cfg   InboxConfig
	debts debts

	mu      sync.Mutex
	more    sync.Cond
	memory  Bytes
	bytes   int // In memory.
	storage Storage
	read    int64         // What has been taken from the storage,
	write   int64         // and what was put there; see span for the place.
	paced   chan struct{} // Closed when little is left.
	vain    time.Duration // The pauses since something was taken.
	ended   bool          // Nothing more is accepted; what is here can still be taken.
	dropped bool          // Nothing can be taken either.
}

// NewInbox returns an empty Inbox.
func NewInbox(cfg InboxConfig) *Inbox {
	b := &Inbox{cfg: cfg}
	b.more.L = &b.mu
	return b
}

// Push appends p, which then belongs to the inbox. The error is [ErrFull],
// [ErrClosed] after End or Drop, or what the storage said; p is not kept then.
func (b *Inbox) Push(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return ErrClosed
	}
	if len(p) == 0 {
		return nil
	}
	// After stored bytes everything goes to the storage, or it would overtake.
	if b.read == b.write && b.keepLocked(p) {
		return nil
	}
	return b.storeLocked(p)
}

func (b *Inbox) keepLocked(p []byte) bool {
	if b.bytes+len(p) > b.cfg.Memory || (b.cfg.Budget != nil && !b.cfg.Budget.take(len(p))) {
		return false
	}
	b.memory.Push(p)
	b.bytes += len(p)
	b.more.Signal()
	return true
}

func (b *Inbox) storeLocked(p []byte) error {
	if b.cfg.Storage == nil || b.write-b.read+int64(len(p)) > b.cfg.Stored {
		return ErrFull
	}
	if b.storage == nil {
		s, err := b.cfg.Storage()
		if err != nil {
			return err
		}
		b.storage = s
	}
	end := b.write + int64(len(p))
	for at := b.write; at < end; {
		place, n := b.span(at, end)
		if _, err := b.storage.WriteAt(p[:n], place); err != nil {
			return err
		}
		p, at = p[n:], at+n
	}
	b.write = end
	b.more.Signal()
	return nil
}

// span is where the bytes of [from, to) begin in the storage, and how many of
// them lie there in one piece: the storage is a ring of cfg.Stored bytes, because
// one that is never quite empty would grow with everything that passes it.
func (b *Inbox) span(from, to int64) (place, n int64) {
	place = from % b.cfg.Stored
	return place, min(to-from, b.cfg.Stored-place)
}

// Next waits for the oldest bytes and returns some of them, which then belong
// to the caller: io.EOF after End when nothing is left, [ErrClosed] after Drop.
func (b *Inbox) Next() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.dropped:
			return nil, ErrClosed
		case !b.memory.Empty():
			p := b.memory.Pop()
			b.releaseLocked(len(p))
			b.tookLocked()
			return p, nil
		case b.read < b.write:
			return b.loadLocked()
		case b.ended:
			return nil, io.EOF
		}
		b.more.Wait()
	}
}

// Poll is Next without waiting, and without reading the storage: nil says that Next
// has to be asked.
func (b *Inbox) Poll() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dropped || b.memory.Empty() {
		return nil
	}
	p := b.memory.Pop()
	b.releaseLocked(len(p))
	return p
}

const (
	// paceAbove is what may wait in memory before whoever brings it pauses.
	paceAbove = 256 << 10

	// pacePause is how long such a pause may last: time for a command to take some
	// hundred KiB, and little for everybody else who waits meanwhile.
	pacePause = 3 * time.Millisecond

	// maxPauses is how long one session is waited for while it takes nothing: it takes
	// piece by piece, and on a busy host that emulates, one can take some 20 ms.
	maxPauses = 100 * time.Millisecond

	// pauseShare is which part of the time may pass so, for all sessions together.
	pauseShare = 10
)

// A PauseBudget bounds the time in which somebody waits for inboxes of which nothing is
// taken: a moment at first, and later a tenth of the time, however many there are.
// Time in which something was taken after all does not count.
type PauseBudget struct {
	mu   sync.Mutex
	left time.Duration
	at   time.Time // When left was what it says.
}

// take takes the time of one pause, if there is so much.
func (p *PauseBudget) take() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.at.IsZero() {
		p.left = maxPauses
	}
	p.left, p.at = min(maxPauses, p.left+now.Sub(p.at)/pauseShare), now
	if p.left < pacePause {
		return false
	}
	p.left -= pacePause
	return true
}

func (p *PauseBudget) give(d time.Duration) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = min(maxPauses, p.left+d)
}

// Pace lets a session that takes its input catch up: it returns when little is
// waiting, and after a moment at the latest. A session that has taken nothing for
// some such moments is not waited for any more, until it takes something. Without
// the pause a host that is faster than the session would fill the memory and then the
// storage, which is slower than both.
func (b *Inbox) Pace() {
	b.mu.Lock()
	if b.vain >= maxPauses || b.dropped || b.bytes <= paceAbove || !b.cfg.Pauses.take() {
		b.mu.Unlock()
		return
	}
	b.vain += pacePause
	low := make(chan struct{})
	b.paced = low
	b.mu.Unlock()
	limit := time.NewTimer(pacePause)
	defer limit.Stop()
	select {
	case <-low:
	case <-limit.C:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paced = nil
}

// tookLocked notes that the session is moving: the pauses were not in vain.
func (b *Inbox) tookLocked() {
	if b.vain > 0 {
		b.cfg.Pauses.give(b.vain)
		b.vain = 0
	}
	if b.paced != nil && b.bytes <= paceAbove/2 {
		close(b.paced)
		b.paced = nil
	}
}

// loadLocked takes a piece back from the storage. One that was emptied starts
// again at its beginning, where the disk has blocks for it already.
func (b *Inbox) loadLocked() ([]byte, error) {
	place, n := b.span(b.read, b.write)
	p := make([]byte, min(n, 2*Quantum))
	if _, err := b.storage.ReadAt(p, place); err != nil {
		return nil, err
	}
	if b.read += int64(len(p)); b.read == b.write {
		b.read, b.write = 0, 0
	}
	b.tookLocked()
	return p, nil
}

func (b *Inbox) releaseLocked(n int) {
	b.bytes -= n
	if b.cfg.Budget != nil {
		b.cfg.Budget.give(n)
	}
}

// Room reports whether n more bytes would be kept in memory, as far as this inbox
// can tell; an empty one, or one that takes nothing any more, has room.
func (b *Inbox) Room(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return true
	case b.read < b.write:
		return false
	case b.bytes == 0:
		return true
	}
	return b.bytes+n <= b.cfg.Memory && (b.cfg.Budget == nil || b.cfg.Budget.Left() >= int64(n))
}

// Waiting is how many bytes are here, in memory and in the storage.
func (b *Inbox) Waiting() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.bytes) + b.write - b.read
}

// End refuses further bytes; those that are here can still be taken.
func (b *Inbox) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.more.Broadcast()
}

// Drop forgets everything and wakes whoever waits in Next.
func (b *Inbox) Drop() {
	defer b.debts.forgive()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended, b.dropped = true, true
	b.releaseLocked(b.bytes)
	b.tookLocked()
	b.memory = Bytes{}
	b.read, b.write = 0, 0
	if b.storage != nil {
		_ = b.storage.Close() // Unlinked scratch space: nothing of it is needed.
		b.storage = nil
	}
	b.more.Broadcast()
}
