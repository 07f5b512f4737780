package client

import (
	"sync"

	"github.com/agentd-go/agentd/wire"
)

// replayLimit is how much input is kept until the guest has taken it. The agent says so after
// every 32 KiB, so a link is never idle for the want of room.
const replayLimit = 256 << 10

// A replay keeps the input of a kept command that the guest has not taken, and sends it on
// one link after the other.
type replay struct {
	mu      sync.Mutex
	changed sync.Cond
	base    uint64 // The offset of the first byte of kept.
	kept    []byte
	sent    uint64 // The offset up to which the seat has sent.
	seat    *seat  // The one that sends; nil before the first.
	ended   bool   // Nothing follows kept.
	over    bool   // Nobody reads the input.
}

// append adds input, and waits for room. It returns false if nobody reads it.
func (r *replay) append(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(b) > 0 {
		for !r.over && len(r.kept) >= replayLimit {
			r.changed.Wait()
		}
		if r.over {
			return false
		}
		n := min(len(b), replayLimit-len(r.kept))
		r.kept, b = append(r.kept, b[:n]...), b[n:]
		r.changed.Broadcast()
	}
	return !r.over
}

// end says that the input ends.
func (r *replay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.changed.Broadcast()
}

// drop ends the input at once.
func (r *replay) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over, r.kept = true, nil
	r.changed.Broadcast()
}

// taken forgets what the guest has.
func (r *replay) taken(offset uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset > r.base && offset <= r.base+uint64(len(r.kept)) {
		n := copy(r.kept, r.kept[offset-r.base:])
		r.kept, r.base = r.kept[:n], offset
		r.changed.Broadcast()
	}
}

// begin lets a seat send from the offset on that the guest has. It returns false if the
// guest has other input than ours.
func (r *replay) begin(s *seat, from uint64) bool {
	r.mu.Lock()
	first := r.seat == nil
	if first {
		r.base = from
	}
	ours := r.over || from >= r.base && from <= r.base+uint64(len(r.kept))
	r.seat, r.sent = s, from
	r.mu.Unlock()
	r.taken(from)
	r.changed.Broadcast()
	return ours
}

// next waits for the next piece that a seat has to send; none is the end of the input. It
// returns false if the seat has nothing more to send.
func (r *replay) next(s *seat) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		unsent := r.base + uint64(len(r.kept)) - r.sent
		switch {
		case r.over || r.seat != s:
			return nil, false
		case unsent > 0:
			n := min(unsent, stdinChunk)
			b := make([]byte, wire.DataHead+n)
			copy(b[wire.DataHead:], r.kept[r.sent-r.base:])
			r.sent += n
			return b, true
		case r.ended:
			return nil, true
		}
		r.changed.Wait()
	}
}

// pump sends the input by a seat until the seat has gone.
func (r *replay) pump(s *seat) {
	for {
		b, ok := r.next(s)
		switch {
		case !ok:
			return
		case b == nil:
			if end, err := s.client.encode(s.id, new(wire.ExecStdin)); err == nil {
				_ = s.in.Send(end) // Fails only if the link has ended: the next one sends it.
			}
			return
		}
		n := len(b) - wire.DataHead
		start := wire.PutDataHead(b, own, s.id, wire.TypeExecStdin, n)
		if s.in.Send(b[start:]) != nil {
			return
		}
	}
}
