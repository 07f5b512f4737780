package session

import (
	"bytes"
	"runtime"
	"sync/atomic"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const (
	// minRead is the size of the first read of an output: most commands write less.
	minRead = 4 << 10

	// maxFrame is the longest frame of data: two writes of the port, which takes
	// half of it in one (mux.Quantum). A byte more would be a third write.
	maxFrame = 2 * mux.Quantum

	// MaxRead is the room for data in such a frame.
	MaxRead = maxFrame - wire.DataHead

	// lentFrames bounds the large frames of all sessions. Each flood that has a turn
	// uses three: one is being written, one is queued, one is being filled. The rest is
	// for frames of floods whose turn has just ended.
	lentFrames = 24

	// floodPipe is the size of a pipe that its command has filled: the command and the
	// agent then alternate less often.
	floodPipe = 256 << 10

	// pipe is the size of an ordinary pipe.
	pipe = 64 << 10
)

// A littleFrame has the room for the first read of an output.
type littleFrame [wire.DataHead + minRead]byte

// little returns a little frame with arbitrary content. Most of what a short command made the
// agent allocate was these.
func (h *Host) little() *littleFrame {
	if b, ok := h.littles.Get().(*littleFrame); ok {
		return b
	}
	return new(littleFrame)
}

// NewPool returns the pool of large frames of one agent's sessions.
func NewPool() *mux.Pool { return mux.NewPool(maxFrame, lentFrames) }

// A Source gives a pump its bytes.
type Source interface {
	// Read waits for some bytes.
	Read(b []byte) (int, error)
	// Try reads without waiting: 0 bytes and no error mean that nothing is there yet.
	Try(b []byte) (int, error)
}

// A Stored source has all its bytes from the start, as a file has: a read never waits
// for more.
type Stored func([]byte) (int, error)

// Read is the function.
func (s Stored) Read(b []byte) (int, error) { return s(b) }

// Try is the function, which does not wait.
func (s Stored) Try(b []byte) (int, error) { return s(b) }

// A Pump sends the bytes of a source as data of one kind. A frame has all bytes that are
// there when it is made.
type Pump struct {
	*Base
	kind  wire.Type
	from  Source
	count *atomic.Uint64 // Counts the bytes sent.
	to    flow.Sender    // Makes the frames.
	room  int            // The size that Grow gave the source's pipe; 0 before.
	turn  turn

	Grow    func(size int) bool // Resizes the source's pipe; nil if it has none.
	Flooded func()              // Called when this pump turns out to be a flood; may be nil.
}

// NewPump returns a pump that sends the bytes of a source as messages of one kind and
// counts them.
func NewPump(base *Base, kind wire.Type, from Source, count *atomic.Uint64) *Pump {
	return &Pump{Base: base, kind: kind, from: from, to: flow.SendMessages(base.Host.Generation, kind, nil), count: count}
}

// Run pumps until the source's error, which it returns. It waits while the client does
// not read. After the client has gone it reads on, so that the command is not blocked.
func (p *Pump) Run() error {
	p.turn.of = &p.Host.turns
	defer p.turn.end()
	// Outside floods a session holds this buffer only.
	lent := p.Host.little()
	defer p.Host.littles.Put(lent)
	little := lent[:]
	for {
		n, err := p.from.Read(little[wire.DataHead:])
		if p.kind == wire.TypeExecStderr {
			// The runtime wakes the reader that became ready last first. Yielding once lets
			// stdout go before stderr, as the user of a command expects that prints a result
			// and then a remark within one time slice.
			runtime.Gosched()
		}
		switch {
		case n == minRead && err == nil:
			err = p.flood(little)
		case n > 0:
			p.emit(bytes.Clone(little[:wire.DataHead+n]), n, nil)
		}
		if err != nil {
			return err
		}
	}
}

// flood sends a full buffer and all bytes that are there after it.
func (p *Pump) flood(little []byte) error {
	first, full := little[wire.DataHead:], false
	if p.Flooded != nil {
		p.Flooded() // Otherwise this command's own start grace would pause it.
	}
	for {
		crowded := p.turn.wait()
		p.Host.turns.grace.wait()
		b := p.Host.Pool.Get()
		if b == nil {
			if len(first) > 0 {
				p.emit(bytes.Clone(little), len(first), nil)
			}
			return nil
		}
		data := b.B[wire.DataHead:][:p.to.Longest(MaxRead)]
		n := copy(data, first)
		more, err := p.from.Try(data[n:])
		if n += more; n == 0 {
			b.Release()
			return err
		}
		whole := n == len(data)
		p.turn.moved(n)
		p.emit(b.B, n, b)
		if !whole || err != nil {
			if !full { // The source is slower than the agent: it needs no turn.
				p.turn.end()
			}
			return err
		}
		first, full = nil, true
		p.Host.turns.grace.flood()
		p.widen(crowded)
	}
}

// widen enlarges a pipe that was full, and shrinks it again when other floods wait: each
// command fills its pipe before it waits, which delays all the others.
func (p *Pump) widen(crowded bool) {
	switch {
	case p.Grow == nil:
	case p.room == 0 && !crowded && p.Grow(floodPipe):
		p.room = floodPipe
	case p.room == floodPipe && crowded && p.Grow(pipe): // If not, the pipe still holds too much.
		p.room = pipe
	}
}

// emit sends the n bytes at frame[wire.DataHead:]. A lent that is not nil is the pool's
// buffer that frame lies in; it goes back when the frame has been sent.
func (p *Pump) emit(frame []byte, n int, lent *mux.Buffer) {
	frame = p.to.Frame(frame, p.ID, n)
	if p.counts(p.kind) {
		p.count.Add(uint64(n))
	}
	if lent != nil {
		_ = p.bulk.SendBuffer(lent, frame) // An error means that the client has gone: see Run.
	} else {
		_ = p.bulk.Send(frame)
	}
}
