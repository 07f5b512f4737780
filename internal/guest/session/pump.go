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

	// maxRead is what such a frame has room for beside its head.
	maxRead = maxFrame - wire.DataHead

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

// A source is what a pump reads.
type source interface {
	// Read waits for some bytes.
	Read(b []byte) (int, error)
	// Try does not wait: 0 bytes and no error mean that nothing is there yet.
	Try(b []byte) (int, error)
}

// A stored source has all it will ever have, and never waits for more.
type stored func([]byte) (int, error)

func (s stored) Read(b []byte) (int, error) { return s(b) }
func (s stored) Try(b []byte) (int, error)  { return s(b) }

// A pump sends what a source gives as data messages of one kind, in frames as
// large as what is there makes them.
type pump struct {
	*base
	kind  wire.Type
	from  source
	count *atomic.Uint64      // Of bytes that were sent.
	to    flow.Sender         // Makes the frames.
	grow  func(size int) bool // Gives the source room for so much; nil where nothing can.
	room  int                 // What it was given, 0 for nothing yet.
	turn  turn
	grown func() // Called when this is a flood itself; nil for nobody.
}

// run returns the source's error. While nobody takes the data it waits; when
// nobody will any more it goes on reading, so that a command is not held up.
func (p *pump) run() error {
	p.turn.of = &p.host.turns
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
func (p *pump) flood(little []byte) error {
	first, full := little[wire.DataHead:], false
	if p.grown != nil {
		p.grown() // Else it would wait for itself.
	}
	for {
		crowded := p.turn.wait()
		p.host.turns.young.wait()
		b := p.host.Pool.Get()
		if b == nil {
			if len(first) > 0 {
				p.emit(bytes.Clone(little), len(first), nil)
			}
			return nil
		}
		data := b.B[wire.DataHead:][:p.to.Longest(maxRead)]
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
		p.host.turns.young.flood()
		p.widen(crowded)
	}
}

// widen gives a pipe that was full more room, and takes it back where many are:
// what each command may do before it waits delays all the others.
func (p *pump) widen(crowded bool) {
	switch {
	case p.grow == nil:
	case p.room == 0 && !crowded && p.grow(floodPipe):
		p.room = floodPipe
	case p.room == floodPipe && crowded && p.grow(pipe): // Else there is too much in it yet.
		p.room = pipe
	}
}

// emit sends the n bytes at frame[wire.DataHead:]; lent is what frame lies in, if
// that is to be given back.
func (p *pump) emit(frame []byte, n int, lent *mux.Buffer) {
	frame = p.to.Frame(frame, p.id, n)
	if p.counts(p.kind) {
		p.count.Add(uint64(n))
	}
	if lent != nil {
		_ = p.bulk.SendBuffer(lent, frame) // Nobody listens: it goes on, see run.
	} else {
		_ = p.bulk.Send(frame)
	}
}
