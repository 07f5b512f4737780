package mux

import "sync"

// A Pool lends buffers of one size for frames, so that a flood needs no fresh
// memory for each. It lends a bounded number, and nobody waits for one: whoever
// gets none makes do with small frames. Else a session that hangs with its
// buffers could hold up the others.
type Pool struct {
	size int

	mu   sync.Mutex
	left int // Not lent.
	free []*Buffer
}

// A Buffer is lent by a Pool. It goes back by Release, or when the frame in it
// has left (see [Outbox.SendBuffer]).
type Buffer struct {
	B    []byte
	pool *Pool
}

// NewPool returns a Pool of buffers of size bytes, most of them at a time.
func NewPool(size, most int) *Pool { return &Pool{size: size, left: most} }

// Get lends a buffer, with anything in it, or returns nil.
func (p *Pool) Get() *Buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return nil
	}
	p.left--
	last := len(p.free) - 1
	if last < 0 {
		return &Buffer{B: make([]byte, p.size), pool: p}
	}
	b := p.free[last]
	p.free[last], p.free = nil, p.free[:last]
	return b
}

// Release gives the buffer back.
func (b *Buffer) Release() {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	b.pool.left++
	b.pool.free = append(b.pool.free, b)
}

// Trim forgets the buffers that are not lent.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = nil
}
