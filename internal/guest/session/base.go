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
	// Message handles a message that follows the session's request.
	Message(m wire.Message)
	// Data takes the payload of a data message; the session owns p from then on. For
	// some types an empty p is the end of the stream. The session refunds the charge when
	// the bytes have been written.
	Data(t wire.Type, p []byte, c Charge)
	// Detach disconnects the session from its client: it sends nothing any more. It does
	// not wait.
	Detach()
	// Done is closed when the last frame has been queued.
	Done() <-chan struct{}
	// Over reports whether a frame that is queued from now on leaves after the last frame.
	Over() bool
}

// An Ending is the owner of a session, which takes part in its end.
type Ending interface {
	Forget(id uint32, s Session)  // Called just before the terminal frame is queued: the id is free.
	Release(id uint32, s Session) // Called after that frame has been sent: the session holds nothing.
}

// A Base is what every kind of session has: its id, its way to the host, its end.
type Base struct {
	Host *Host
	ID   uint32

	out    mux.Outbox
	bulk   *mux.Outbox // Queue for data: out, or an outbox of the second port.
	ending Ending
	once   sync.Once
	gauge  *atomic.Int64 // Counts the running sessions of this kind; may be nil.

	finish sync.Mutex
	queued bool          // The last frame has been queued; guarded by finish, as is done.
	done   chan struct{} // Made when somebody asks for it: most sessions end unwatched.

	detached atomic.Bool
	unsent   func(why error) wire.Message // Makes the message that replaces one that cannot be encoded.
}

// NewBase returns the base of a session on an id. The function unsent makes the message
// that replaces one that cannot be encoded. A gauge that is not nil counts the running
// sessions of the kind.
func (h *Host) NewBase(id uint32, ending Ending, unsent func(why error) wire.Message, gauge *atomic.Int64) *Base {
	if gauge != nil {
		gauge.Add(1)
	}
	b := &Base{Host: h, gauge: gauge, ID: id, ending: ending, unsent: unsent}
	h.Writer.Prepare(&b.out, 0)
	b.bulk = &b.out
	return b
}

// Done is closed when the last frame has been queued.
func (b *Base) Done() <-chan struct{} {
	b.finish.Lock()
	defer b.finish.Unlock()
	if b.done == nil {
		if b.done = make(chan struct{}); b.queued {
			close(b.done)
		}
	}
	return b.done
}

// finished closes Done.
func (b *Base) finished() {
	b.finish.Lock()
	defer b.finish.Unlock()
	if b.queued = true; b.done != nil {
		close(b.done)
	}
}

// Over reports whether a frame that is queued from now on leaves after the last frame.
func (b *Base) Over() bool { return b.out.Over() }

// Detach drops what is queued and refuses more.
func (b *Base) Detach() {
	b.detached.Store(true)
	b.out.Discard()
	b.bulk.Discard()
}

// Message ignores messages: most kinds of sessions get none after their request.
func (*Base) Message(wire.Message) {}

// Data ignores data.
func (*Base) Data(_ wire.Type, _ []byte, c Charge) { c.Refund() }

// Detached reports whether the client has gone.
func (b *Base) Detached() bool { return b.detached.Load() }

// End sends the session's one terminal frame and returns when it has left. Only the
// first call has an effect.
func (b *Base) End(self Session, last wire.Message) {
	b.once.Do(func() {
		if b.gauge != nil {
			b.gauge.Add(-1)
		}
		b.ending.Forget(b.ID, self)
		b.queue(last, b.out.WriteLast)
		b.finished()
		b.out.Drain()
		b.bulk.Drain()
		b.ending.Release(b.ID, self)
	})
}

// Send queues a message and waits for room.
func (b *Base) Send(m wire.Message) { b.queue(m, b.out.Send) }

// WriteNow writes a message at once, or queues it for the goroutine that is writing. It is for
// the few messages that a client waits for.
func (b *Base) WriteNow(m wire.Message) { b.queue(m, b.out.WriteNow) }

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

// counts adds a message to the activity before it is sent, because a host that has received it may ask
// for the number at once. It reports whether the session still has its client.
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

// Guard runs f, the body of one of the session's goroutines. A panic in f is a fault of
// the agent: it ends this session, by a call of ended, and not the machine.
func (b *Base) Guard(f func(), ended func(why string)) {
	defer func() {
		if fault := recover(); fault != nil {
			sys.Logf("session %d: %v\n%s", b.ID, fault, debug.Stack())
			ended(fmt.Sprintf("fault in the agent: %v", fault))
		}
	}()
	f()
}

// maxRepeated bounds the part of a request's text that an answer repeats. Any path fits.
// It is far less than a frame, because a thousand answers may wait for a host that reads
// none.
const maxRepeated = 4 << 10

// Repeated returns the part of a request's text that an answer may repeat.
func Repeated(words string) string { return wire.ValidText(words[:min(len(words), maxRepeated)]) }

// ErrDetached stops a session whose client has gone.
var ErrDetached = errors.New("the client has gone")
