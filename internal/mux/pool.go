package mux

import "sync"

// A Pool lends buffers of one size for frames, so that a flood allocates no memory for
// each frame. It lends a bounded number. Nobody waits for a buffer: without one a
// session uses small frames. Otherwise a session that hangs with its buffers could
// block the others.
type Pool struct {
	size int

	mu   sync.Mutex
	left int // Buffers that may still be lent.
	free []*Buffer
}

// A Buffer is lent by a Pool. It returns by Release, or when its frame is written (see
// [Outbox.SendBuffer]).
type Buffer struct {
	B    []byte
	pool *Pool
}

// NewPool returns a Pool of buffers of size bytes, most of them at a time.
func NewPool(size, most int) *Pool { return &Pool{size: size, left: most} }

// Get lends a buffer with arbitrary content, or returns nil.
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
