package ring

import (
	"io"
	"sync"

	"github.com/agentd-go/agentd/internal/mux"
)

const (
	// least is the memory of a ring that has bytes: every ring may have it, whatever its
	// budget says. It is also the least that is moved to the file at once.
	least = 4 << 10

	// leastWait is the same for a ring that waits: readers acknowledge 16 KiB together, and a
	// smaller ring could be full of bytes that were read and not yet acknowledged.
	leastWait = 64 << 10
)

// A Config says how much a ring keeps.
type Config struct {
	Memory  int   // The most bytes in memory; 4 KiB at least, 64 KiB in a ring that waits.
	Disk    int64 // The most bytes in the file; 0 has none, 4 KiB at least.
	Wait    bool  // A full ring makes the writer wait; else the oldest bytes go.
	Storage func() (mux.Storage, error)

	MemoryBudget, DiskBudget *mux.Budget
}

// A Ring keeps the newest bytes of one stream.
type Ring struct {
	c    Config
	disk int64 // The file's size; its byte at offset o is at o modulo disk. The writer's.

	mu     sync.Mutex
	buf    []byte // The byte at offset o is at o modulo its length.
	file   mux.Storage
	high   int64 // How much of the file is in use or has been.
	start  uint64
	mem    uint64 // The first byte in memory.
	end    uint64
	acked  uint64        // What may be forgotten in a ring that waits.
	change chan struct{} // Closed at the next change; nil if nobody waits.
	ended  bool
	closed bool
}

// New returns an empty ring.
func New(c Config) *Ring {
	r := &Ring{c: c}
	r.c.Memory = max(c.Memory, r.least())
	if c.Disk > 0 {
		r.disk = max(c.Disk, least)
	}
	return r
}

// least is the memory that the ring has without asking the budget.
func (r *Ring) least() int {
	if r.c.Wait {
		return leastWait
	}
	return least
}

// Bounds returns the range of offsets that is kept.
func (r *Ring) Bounds() (start, end uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.start, r.end
}

// Changed returns a channel that is closed at the next change: bytes, the end, or
// consumption.
func (r *Ring) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changedLocked()
}

func (r *Ring) changedLocked() <-chan struct{} {
	if r.change == nil {
		r.change = make(chan struct{})
	}
	return r.change
}

func (r *Ring) wakeLocked() {
	if r.change != nil {
		close(r.change)
		r.change = nil
	}
}

// End says that no more bytes come.
func (r *Ring) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.wakeLocked()
}

// Close forgets everything. Readers see the end, and a writer that waits goes on.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed, r.ended = true, true
	r.giveMemoryLocked()
	give(r.c.DiskBudget, r.high)
	if r.file != nil {
		_ = r.file.Close() // It has no name: nothing is left of it.
	}
	r.start, r.mem = r.end, r.end
	r.wakeLocked()
}

func give(b *mux.Budget, n int64) {
	if b != nil && n > 0 {
		b.Give(n)
	}
}

func take(b *mux.Budget, n int64) bool { return b == nil || b.Take(n) }

func (r *Ring) giveMemoryLocked() {
	give(r.c.MemoryBudget, int64(len(r.buf)-r.least()))
	r.buf = nil
}

// Consumed says that a ring that waits may forget the bytes before an offset.
func (r *Ring) Consumed(upTo uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if upTo > r.acked {
		r.acked = min(upTo, r.end)
		r.wakeLocked()
	}
}

// Read copies bytes that begin at an offset, without waiting. If the byte at that offset is
// gone, or has not come and never will, at is where the copied bytes begin. At the end of
// the stream the error is io.EOF. No bytes and no error mean that there are none yet.
func (r *Ring) Read(offset uint64, b []byte) (n int, at uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		at = max(offset, r.start)
		switch {
		case at >= r.mem:
			at = min(at, r.end)
			n = r.fromMemoryLocked(at, b)
			if n == 0 && r.ended {
				err = io.EOF
			}
			return n, at, err
		case len(b) == 0:
			return 0, at, nil
		}
		if n = r.fromFileLocked(at, b); n > 0 && at >= r.start {
			return n, at, nil
		}
		if n == 0 {
			offset = r.mem // The file cannot be read: its bytes are lost.
		}
	}
}

func (r *Ring) fromMemoryLocked(at uint64, b []byte) int {
	n := min(len(b), int(r.end-at))
	for done := 0; done < n; {
		from := int((at + uint64(done)) % uint64(len(r.buf)))
		done += copy(b[done:n], r.buf[from:])
	}
	return n
}

// fromFileLocked reads one piece of the file. It gives the lock up meanwhile.
func (r *Ring) fromFileLocked(at uint64, b []byte) int {
	position := int64(at % uint64(r.disk))
	n := min(int64(len(b)), int64(r.mem-at), r.disk-position)
	file := r.file
	r.mu.Unlock()
	got, err := file.ReadAt(b[:n], position)
	r.mu.Lock()
	if got < int(n) && err != nil {
		return 0
	}
	return int(n)
}
