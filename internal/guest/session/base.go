package session

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// A Session is what runs on one id.
type Session interface {
	// Detach forgets the host's side: nothing is sent any more. It does not wait.
	Detach()
	// Done is closed when the last frame has been queued.
	Done() <-chan struct{}
	// Over reports whether what is queued from now on leaves behind the last frame.
	Over() bool
}

// An Ending is what the owner of a session does at its end.
type Ending struct {
	Forget  func(Session) // The terminal frame is about to be queued: the id is free.
	Release func(Session) // It has left, and with it all that the session held.
}

// A base is what every kind of session has: its id, its way to the host, its end.
type base struct {
	host   *Host
	id     uint32
	out    *mux.Outbox
	bulk   *mux.Outbox // Of data: out, or that of the port which records have to themselves.
	ending Ending
	done   chan struct{}
	once   sync.Once
	gauge  *atomic.Int64 // Counts the sessions of its kind; nil is not counted.

	detached atomic.Bool
	unsent   func(why error) wire.Message // Stands for a message that cannot be sent.
}

func (h *Host) base(id uint32, ending Ending, unsent func(why error) wire.Message, gauge *atomic.Int64) *base {
	if gauge != nil {
		gauge.Add(1)
	}
	out := h.Writer.Outbox(0)
	return &base{
		host: h, gauge: gauge, id: id, ending: ending, unsent: unsent,
		out: out, bulk: out, done: make(chan struct{}),
	}
}

// Done is closed when the last frame has been queued.
func (b *base) Done() <-chan struct{} { return b.done }

// Over reports whether what is queued from now on leaves behind the last frame.
func (b *base) Over() bool { return b.out.Over() }

// detach drops what is queued and refuses more.
func (b *base) detach() {
	b.detached.Store(true)
	b.out.Discard()
	b.bulk.Discard()
}

// end ends the session with its one terminal frame; only the first call does.
// It returns when that frame has left.
func (b *base) end(self Session, last wire.Message) {
	b.once.Do(func() {
		if b.gauge != nil {
			b.gauge.Add(-1)
		}
		b.ending.Forget(self)
		b.queue(last, b.out.PutLast)
		close(b.done)
		b.out.Drain()
		b.bulk.Drain()
		b.ending.Release(self)
	})
}

// send queues a message and waits for room.
func (b *base) send(m wire.Message) { b.queue(m, b.out.Send) }

// say sends a message at once: one of the few that somebody waits for.
func (b *base) say(m wire.Message) { b.queue(m, b.out.PutNow) }

// put queues a message without waiting.
func (b *base) put(m wire.Message) { b.queue(m, b.out.Put) }

func (b *base) queue(m wire.Message, to func([]byte) error) {
	frame, err := wire.AppendFrame(nil, b.host.Generation, b.id, m)
	if err != nil {
		m = b.unsent(err)
		frame, err = wire.AppendFrame(nil, b.host.Generation, b.id, m)
	}
	if err != nil {
		return
	}
	b.counts(m.Type())
	_ = to(frame) // A link or client that is gone needs no answer.
}

// counts adds a message that is about to be sent: a host that has it may ask for
// the number before whoever sent it goes on. It reports whether somebody listens.
func (b *base) counts(t wire.Type) bool {
	if b.detached.Load() {
		return false
	}
	b.host.Activity.Sent(t)
	return true
}

// work runs f as guard does, on a goroutine of the crew.
func (b *base) work(f func(), ended func(why string)) {
	b.host.crew.do(func() { b.guard(f, ended) })
}

// guard runs one of the session's goroutines: a fault of ours in it ends the
// session, by what ended does, and not the machine.
func (b *base) guard(f func(), ended func(why string)) {
	defer func() {
		if fault := recover(); fault != nil {
			sys.Logf("session %d: %v\n%s", b.id, fault, debug.Stack())
			ended(fmt.Sprintf("fault in the agent: %v", fault))
		}
	}()
	f()
}

// maxRepeated is how much of a host's words an answer repeats: any path, and far
// less than a frame, because a thousand answers may wait for a host that reads none.
const maxRepeated = 4 << 10

// repeated is what an answer repeats of a host's words.
func repeated(words string) string { return wire.ValidText(words[:min(len(words), maxRepeated)]) }

// errDetached is why a session stops that nobody listens to.
var errDetached = errors.New("the client has gone")
