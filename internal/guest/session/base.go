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
	// Message acts on a message that came for the session after its request.
	Message(m wire.Message)
	// Data takes the data of a message of a type, which belongs to the session then. No
	// bytes at all end it, for some types. The charge is handed back when the bytes are
	// where they belong.
	Data(t wire.Type, p []byte, c Charge)
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

// A Base is what every kind of session has: its id, its way to the host, its end.
type Base struct {
	Host *Host
	ID   uint32

	out    *mux.Outbox
	bulk   *mux.Outbox // Of data: out, or that of the port which records have to themselves.
	ending Ending
	done   chan struct{}
	once   sync.Once
	gauge  *atomic.Int64 // Counts the sessions of its kind; nil is not counted.

	detached atomic.Bool
	unsent   func(why error) wire.Message // Stands for a message that cannot be sent.
}

// NewBase returns the base of a session on an id. The function unsent makes what stands for a
// message that cannot be sent; gauge counts the sessions of the kind, if it is not nil.
func (h *Host) NewBase(id uint32, ending Ending, unsent func(why error) wire.Message, gauge *atomic.Int64) *Base {
	if gauge != nil {
		gauge.Add(1)
	}
	out := h.Writer.Outbox(0)
	return &Base{
		Host: h, gauge: gauge, ID: id, ending: ending, unsent: unsent,
		out: out, bulk: out, done: make(chan struct{}),
	}
}

// Done is closed when the last frame has been queued.
func (b *Base) Done() <-chan struct{} { return b.done }

// Over reports whether what is queued from now on leaves behind the last frame.
func (b *Base) Over() bool { return b.out.Over() }

// Detach drops what is queued and refuses more.
func (b *Base) Detach() {
	b.detached.Store(true)
	b.out.Discard()
	b.bulk.Discard()
}

// Message ignores messages: most sessions hear nothing after their request.
func (*Base) Message(wire.Message) {}

// Data ignores data.
func (*Base) Data(_ wire.Type, _ []byte, c Charge) { c.Refund() }

// Detached reports whether nobody listens any more.
func (b *Base) Detached() bool { return b.detached.Load() }

// End ends the session with its one terminal frame; only the first call does.
// It returns when that frame has left.
func (b *Base) End(self Session, last wire.Message) {
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

// Send queues a message and waits for room.
func (b *Base) Send(m wire.Message) { b.queue(m, b.out.Send) }

// SendNow sends a message at once: one of the few that somebody waits for.
func (b *Base) SendNow(m wire.Message) { b.queue(m, b.out.PutNow) }

// Put queues a message without waiting.
func (b *Base) Put(m wire.Message) { b.queue(m, b.out.Put) }

func (b *Base) queue(m wire.Message, to func([]byte) error) {
	frame, err := wire.AppendFrame(nil, b.Host.Generation, b.ID, m)
	if err != nil {
		m = b.unsent(err)
		frame, err = wire.AppendFrame(nil, b.Host.Generation, b.ID, m)
	}
	if err != nil {
		return
	}
	b.counts(m.Type())
	_ = to(frame) // A link or client that is gone needs no answer.
}

// counts adds a message that is about to be sent: a host that has it may ask for
// the number before whoever sent it goes on. It reports whether somebody listens.
func (b *Base) counts(t wire.Type) bool {
	if b.Detached() {
		return false
	}
	b.Host.Activity.Sent(t)
	return true
}

// Work runs f as Guard does, on a goroutine of its own.
func (b *Base) Work(f func(), ended func(why string)) {
	b.Host.Go(func() { b.Guard(f, ended) })
}

// Guard runs one of the session's goroutines: a fault of ours in it ends the
// session, by what ended does, and not the machine.
func (b *Base) Guard(f func(), ended func(why string)) {
	defer func() {
		if fault := recover(); fault != nil {
			sys.Logf("session %d: %v\n%s", b.ID, fault, debug.Stack())
			ended(fmt.Sprintf("fault in the agent: %v", fault))
		}
	}()
	f()
}

// maxRepeated is how much of a host's words an answer repeats: any path, and far
// less than a frame, because a thousand answers may wait for a host that reads none.
const maxRepeated = 4 << 10

// Repeated is what an answer repeats of a host's words.
func Repeated(words string) string { return wire.ValidText(words[:min(len(words), maxRepeated)]) }

// ErrDetached is why a session stops that nobody listens to.
var ErrDetached = errors.New("the client has gone")
