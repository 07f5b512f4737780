package client

import (
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// StreamLimit is how many bytes of one stream of one command wait for their
	// consumer before the link does. It is the most that Linux lets a user's pipe
	// hold (/proc/sys/fs/pipe-max-size), so a consumer may pause as long as it may
	// with the largest pipe.
	StreamLimit = 1 << 20

	// chunkCost is what a chunk costs besides its bytes: the rest of its frame,
	// some 50 bytes, the slice and the allocator's rounding. It keeps an agent
	// that sends single bytes within the limit too.
	chunkCost = 128

	// smallChunk is the largest piece that is gathered with its neighbours, in a
	// chunk of twice the size.
	smallChunk = 2 << 10
)

// A stream is a bounded queue of bytes between one writer and one reader.
type stream struct {
	limit int

	mu     sync.Mutex
	more   sync.Cond // Something to read, or the end.
	room   sync.Cond // Something was read, or nobody will.
	chunks [][]byte  // None is empty.
	held   int
	end    error // Follows the chunks; nil while there may be more.
	closed bool  // By the reader: everything is discarded.
	late   bool  // The reader's deadline has passed.

	// pushTimeout bounds a push that waits, and ends the stream with ErrUnread where
	// it is over; 0 is for ever.
	pushTimeout time.Duration
}

func newStream(limit int) *stream {
	s := &stream{limit: limit}
	s.more.L, s.room.L = &s.mu, &s.mu
	return s
}

// push appends p, which then belongs to the stream, and waits while there is no
// room. It reports false when nobody will read p.
func (s *stream) push(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	cost := len(p) + chunkCost
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fullLocked(cost) {
		if s.pushTimeout > 0 {
			t := time.AfterFunc(s.pushTimeout, func() { s.finish(ErrUnread) })
			defer t.Stop()
		}
		for s.fullLocked(cost) {
			s.room.Wait()
		}
	}
	if s.overLocked() {
		return false
	}
	s.keepLocked(p)
	s.more.Signal()
	return true
}

// keepLocked appends p. Small pieces are gathered: one alone costs a hundred times
// its bytes.
func (s *stream) keepLocked(p []byte) {
	s.held += len(p)
	if n := len(s.chunks) - 1; n >= 0 && len(p) <= smallChunk && cap(s.chunks[n])-len(s.chunks[n]) >= len(p) {
		s.chunks[n] = append(s.chunks[n], p...)
		return
	}
	s.held += chunkCost
	if len(p) <= smallChunk {
		p = append(make([]byte, 0, 2*smallChunk), p...)
	} else {
		p = slices.Clip(p) // What lies behind is not ours to append to.
	}
	s.chunks = append(s.chunks, p)
}

func (s *stream) fullLocked(cost int) bool {
	return !s.overLocked() && s.held > 0 && s.held+cost > s.limit
}

func (s *stream) overLocked() bool { return s.closed || s.end != nil }

// finish ends the stream with io.EOF or another error, once. What is in it can
// still be read.
func (s *stream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = err
	}
	s.more.Broadcast()
	s.room.Broadcast()
}

// Close discards what is in the stream and what is still to come.
func (s *stream) Close() error {
	s.discard()
	return nil
}

// discard is Close, and returns how many bytes there were.
func (s *stream) discard() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.chunks {
		n += len(p)
	}
	s.closed = true
	s.chunks, s.held = nil, 0
	s.more.Broadcast()
	s.room.Broadcast()
	return n
}

// ended returns what finish was told, nil before that.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// expire makes reads fail from now on, or not any more.
func (s *stream) expire(late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = late
	s.more.Broadcast()
}

// waitLocked returns nil when there is a chunk.
func (s *stream) waitLocked() error {
	for {
		switch {
		case s.closed:
			return fs.ErrClosed
		case s.late:
			return os.ErrDeadlineExceeded
		case len(s.chunks) > 0:
			return nil
		case s.end != nil:
			return s.end
		}
		s.more.Wait()
	}
}

// Read reads from the oldest chunk.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitLocked(); err != nil {
		return 0, err
	}
	n := copy(p, s.chunks[0])
	s.held -= n
	if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
		s.popLocked()
	}
	s.room.Signal()
	return n, nil
}

func (s *stream) popLocked() {
	s.chunks[0] = nil
	s.chunks = s.chunks[1:]
	s.held -= chunkCost
}

// next takes the oldest chunk.
func (s *stream) next() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitLocked(); err != nil {
		return nil, err
	}
	p := s.chunks[0]
	s.held -= len(p)
	s.popLocked()
	s.room.Signal()
	return p, nil
}

// WriteTo writes the chunks to w without copying them.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		p, err := s.next()
		if err == io.EOF { //nolint:errorlint // Ours, and bare.
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(p)
		total += int64(n)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}
