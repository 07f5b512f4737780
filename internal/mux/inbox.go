package mux

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrFull is what [Inbox.Push] returns when neither memory nor storage has room. The
// session loses the refused bytes and is told so.
var ErrFull = errors.New("session input exceeds its limit")

// A Storage holds what does not stay in memory; *os.File is one. Its user
// closes it.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// A Budget bounds the bytes of all that share it.
type Budget struct{ left atomic.Int64 }

// NewBudget returns a Budget of n bytes.
func NewBudget(n int64) *Budget {
	b := new(Budget)
	b.left.Store(n)
	return b
}

// Left returns the number of free bytes.
func (b *Budget) Left() int64 { return b.left.Load() }

// Take takes n bytes, or reports false.
func (b *Budget) Take(n int64) bool {
	if b.left.Add(-n) >= 0 {
		return true
	}
	b.left.Add(n)
	return false
}

// Give gives n bytes back.
func (b *Budget) Give(n int64) { b.left.Add(n) }

// An InboxConfig holds the bounds of an [Inbox].
type InboxConfig struct {
	Memory  int                     // Bytes in memory, at most.
	Budget  *Budget                 // Shared with other inboxes; nil means no shared bound.
	Storage func() (Storage, error) // Opens the overflow when it is first needed; nil means none.
	Stored  int64                   // Bytes in the overflow, at most.

	Pauses *PauseBudget // Bounds Pace, shared with other inboxes; nil means no shared bound.
}

// An Inbox holds the bytes that have arrived for one session and that it has not taken
// yet. Push never waits for the session; it may wait for the storage's disk.
type Inbox struct {
	cfg   InboxConfig
	debts debts

	mu      sync.Mutex
	more    sync.Cond
	memory  Bytes
	bytes   int // In memory.
	storage Storage
	read    int64         // Bytes read from the storage so far,
	write   int64         // and written to it; span gives the offset.
	paced   chan struct{} // Closed when little is left.
	vain    time.Duration // Total of the pauses since the session last took bytes.
	ended   bool          // No more bytes are accepted; those here can still be taken.
	dropped bool          // No bytes can be taken either.
}

// NewInbox returns an empty Inbox.
func NewInbox(cfg InboxConfig) *Inbox {
	b := &Inbox{cfg: cfg}
	b.more.L = &b.mu
	return b
}

// Push appends p, which then belongs to the inbox. The error is [ErrFull], [ErrClosed]
// after End or Drop, or the storage's error; p is not kept then.
func (b *Inbox) Push(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return ErrClosed
	}
	if len(p) == 0 {
		return nil
	}
	// While bytes are in the storage, new ones go there too, or they would overtake.
	if b.read == b.write && b.keepLocked(p) {
		return nil
	}
	return b.storeLocked(p)
}

func (b *Inbox) keepLocked(p []byte) bool {
	if b.bytes+len(p) > b.cfg.Memory || (b.cfg.Budget != nil && !b.cfg.Budget.Take(int64(len(p)))) {
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

// span returns the offset of the bytes [from, to) in the storage, and how many of them
// are contiguous there. The storage is a ring of cfg.Stored bytes, because a storage
// that is never quite empty would otherwise grow for ever.
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

// Poll is like Next but neither waits nor reads the storage; if it returns nil, the
// caller must use Next.
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
	// paceAbove is how many bytes may wait in memory before Pace pauses.
	paceAbove = 256 << 10

	// pacePause is the longest pause: enough for a command to take some hundred KiB,
	// and short for the other sessions, which wait meanwhile.
	pacePause = 3 * time.Millisecond

	// maxPauses bounds the pauses for a session that takes nothing. A session takes
	// piece by piece; on a busy host with emulation one piece can take some 20 ms.
	maxPauses = 100 * time.Millisecond

	// pauseShare bounds the pauses for all sessions together to this fraction
	// (1/pauseShare) of the time.
	pauseShare = 10
)

// A PauseBudget bounds the pauses for inboxes whose sessions take nothing, for all of
// them together: maxPauses at first, later a tenth of the time. A pause after which the
// session took bytes does not count.
type PauseBudget struct {
	mu   sync.Mutex
	left time.Duration
	at   time.Time // The time for which left is valid.
}

// take charges one pause to the budget, if enough is left.
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

// Pace lets a session that takes its input catch up: it returns when little is waiting,
// at the latest after pacePause. If a session has taken nothing during maxPauses, Pace
// no longer waits for it until it takes bytes again. Without the pause a host that is
// faster than the session would fill the memory and then the storage, which is slower
// than both.
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

// tookLocked notes that the session has taken bytes, and returns its pauses to the
// budget.
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

// loadLocked reads a piece from the storage. An emptied storage starts again at its
// beginning, where the file has blocks already.
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
		b.cfg.Budget.Give(int64(n))
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

// Waiting returns the number of bytes in memory and in the storage.
func (b *Inbox) Waiting() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.bytes) + b.write - b.read
}

// End refuses further bytes; those in the inbox can still be taken.
func (b *Inbox) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.more.Broadcast()
}

// Drop discards all bytes and wakes goroutines that wait in Next.
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
		_ = b.storage.Close() // Unlinked scratch space: an error loses nothing.
		b.storage = nil
	}
	b.more.Broadcast()
}
