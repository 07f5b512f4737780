package client

import (
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
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
)

// A stream is a bounded queue of bytes between one writer and one reader.
type stream struct {
	limit int

	mu     sync.Mutex
	more   sync.Cond // There are bytes to read, or the end.
	room   sync.Cond // Bytes were read, or the reader has closed.
	chunks mux.Bytes
	held   int
	end    error // Follows the chunks; nil while there may be more.
	closed bool  // By the reader: everything is discarded.
	late   bool  // The reader's deadline has passed.

	// pushTimeout bounds the wait of a push; after it the stream ends with ErrUnread. 0 is
	// no bound.
	pushTimeout time.Duration
}

func newStream(limit int) *stream {
	s := &stream{limit: limit}
	s.more.L, s.room.L = &s.mu, &s.mu
	return s
}

// push appends p, which the stream owns from then on, and waits while there is no room. It
// returns false if the reader has closed the stream.
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
	if s.held += len(p); s.chunks.Push(p) {
		s.held += chunkCost
	}
	s.more.Signal()
	return true
}

func (s *stream) fullLocked(cost int) bool {
	return !s.overLocked() && s.held > 0 && s.held+cost > s.limit
}

func (s *stream) overLocked() bool { return s.closed || s.end != nil }

// finish ends the stream with io.EOF or another error, once. Bytes in it can still be read.
func (s *stream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = err
	}
	s.more.Broadcast()
	s.room.Broadcast()
}

// Close discards the bytes in the stream and all further ones.
func (s *stream) Close() error {
	s.discard()
	return nil
}

// discard is Close, and returns how many bytes there were.
func (s *stream) discard() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = s.chunks.Len()
	s.closed = true
	s.chunks, s.held = mux.Bytes{}, 0
	s.more.Broadcast()
	s.room.Broadcast()
	return n
}

// ended returns the error of finish, nil before that.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// expire makes reads fail from now on if late is true, and lets them go on if not.
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
		case !s.chunks.Empty():
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
	n, whole := s.chunks.Copy(p)
	if s.held -= n; whole {
		s.held -= chunkCost
	}
	s.room.Signal()
	return n, nil
}

// next takes the oldest chunk.
func (s *stream) next() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitLocked(); err != nil {
		return nil, err
	}
	p := s.chunks.Pop()
	s.held -= len(p) + chunkCost
	s.room.Signal()
	return p, nil
}

// WriteTo writes the chunks to w without copying them.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	return writeChunks(w, s.next, func(int) {})
}

// writeChunks writes what next returns to w, up to io.EOF. If w does not take a whole
// chunk, unread gets the number of bytes that are left of it.
func writeChunks(w io.Writer, next func() ([]byte, error), unread func(n int)) (total int64, err error) {
	for {
		p, err := next()
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
			unread(len(p) - n)
			return total, err
		}
	}
}
