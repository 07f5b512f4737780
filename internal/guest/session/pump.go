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
	// minRead is the first read of an output: most commands say less.
	minRead = 4 << 10

	// maxFrame is the longest frame of data: two writes of the port, which takes
	// half of it in one (mux.Quantum). A byte more would be a third write.
	maxFrame = 2 * mux.Quantum

	// MaxRead is what such a frame has room for beside its head.
	MaxRead = maxFrame - wire.DataHead

	// lentFrames bounds the large frames of all sessions: the floods whose turn it is
	// with one on its way, one queued and one that is filled, and as many that are
	// left by those before them.
	lentFrames = 24

	// floodPipe is what the pipe of a command has room for that has filled it: the
	// command and we then take turns less often.
	floodPipe = 256 << 10

	// pipe is what an ordinary one has room for.
	pipe = 64 << 10
)

// NewPool returns what the sessions of one agent borrow their large frames from.
func NewPool() *mux.Pool { return mux.NewPool(maxFrame, lentFrames) }

// A Source is what a pump reads.
type Source interface {
	// Read waits for some bytes.
	Read(b []byte) (int, error)
	// Try does not wait: 0 bytes and no error mean that nothing is there yet.
	Try(b []byte) (int, error)
}

// A Stored source has all it will ever have, and never waits for more.
type Stored func([]byte) (int, error)

// Read is the function.
func (s Stored) Read(b []byte) (int, error) { return s(b) }

// Try is the function, which does not wait.
func (s Stored) Try(b []byte) (int, error) { return s(b) }

// A Pump sends what a source gives as data messages of one kind, in frames as
// large as what is there makes them.
type Pump struct {
	*Base
	kind  wire.Type
	from  Source
	count *atomic.Uint64 // Of bytes that were sent.
	to    flow.Sender    // Makes the frames.
	room  int            // What it was given, 0 for nothing yet.
	turn  turn

	Grow    func(size int) bool // Gives the source room for so much; nil where nothing can.
	Flooded func()              // Called when this is a flood itself; nil for nobody.
}

// NewPump returns what sends the bytes of a source as messages of one kind, and counts
// them.
func NewPump(base *Base, kind wire.Type, from Source, count *atomic.Uint64) *Pump {
	return &Pump{Base: base, kind: kind, from: from, to: flow.SendMessages(base.Host.Generation, kind, nil), count: count}
}

// Run returns the source's error. While nobody takes the data it waits; when
// nobody will any more it goes on reading, so that a command is not held up.
func (p *Pump) Run() error {
	p.turn.of = &p.Host.turns
	defer p.turn.end()
	// Between floods this is all that a session holds.
	little := make([]byte, wire.DataHead+minRead)
	for {
		n, err := p.from.Read(little[wire.DataHead:])
		if p.kind == wire.TypeExecStderr {
			// What was written within one time slice is read at once, and the runtime wakes
			// the reader that became ready last first: stdout goes before stderr then, as who
			// prints a result and then a remark expects.
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

// flood sends the bytes of a full buffer and all that is there behind them.
func (p *Pump) flood(little []byte) error {
	first, full := little[wire.DataHead:], false
	if p.Flooded != nil {
		p.Flooded() // Else it would wait for itself.
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
			if !full { // It is slower than we are, and has no use for a turn.
				p.turn.end()
			}
			return err
		}
		first, full = nil, true
		p.Host.turns.grace.flood()
		p.widen(crowded)
	}
}

// widen gives a pipe that was full more room, and takes it back where many are:
// what each command may do before it waits delays all the others.
func (p *Pump) widen(crowded bool) {
	switch {
	case p.Grow == nil:
	case p.room == 0 && !crowded && p.Grow(floodPipe):
		p.room = floodPipe
	case p.room == floodPipe && crowded && p.Grow(pipe): // Else there is too much in it yet.
		p.room = pipe
	}
}

// emit sends the n bytes at frame[wire.DataHead:]; lent is what frame lies in, if
// that is to be given back.
func (p *Pump) emit(frame []byte, n int, lent *mux.Buffer) {
	frame = p.to.Frame(frame, p.ID, n)
	if p.counts(p.kind) {
		p.count.Add(uint64(n))
	}
	if lent != nil {
		_ = p.bulk.SendBuffer(lent, frame) // Nobody listens: it goes on, see Run.
	} else {
		_ = p.bulk.Send(frame)
	}
}
