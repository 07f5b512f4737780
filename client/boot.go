package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A Link is a byte link to a guest: the host's end of its port. A [net.Conn] is one.
type Link interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// A Handshake is the host's part of an agent's boot (protocol sections 6 and 7.1). The
// zero value is for an agent that is configured by variables on its kernel's command line.
type Handshake struct {
	// Bootstrap configures the machine; nil says that variables do.
	Bootstrap *wire.Bootstrap
	// Generation is that of the protocol in which the host speaks; 0 is the newest.
	Generation wire.Generation
	// Resolved, if it is set, is called with the user of commands that name none. The
	// guest's root is final then, and none of the user's mounts is made yet. The file
	// systems that the host serves for that user must be ready when Resolved returns.
	Resolved func(wire.User)
}

// A Greeting is the result of a handshake.
type Greeting struct {
	Ready      wire.Ready
	Generation wire.Generation // The agent's.
	Frame      []byte          // The frame of core.ready, as a relay keeps it for its clients.
	Unread     []byte          // What was read after that frame.
	// Link is the link, with Unread as the first bytes that it reads.
	Link io.ReadWriteCloser
}

// Boot does the host's part of an agent's boot, under any monitor, and returns a client of
// the agent. The context is for the boot alone; a boot has no other deadline. Boot owns the
// link, and closes it when it fails. If the agent says why it cannot boot, the error is an
// [*InitError].
func Boot(ctx context.Context, link Link, h Handshake) (*Client, error) {
	g, err := h.Run(ctx, link)
	if err != nil {
		return nil, errors.Join(err, link.Close())
	}
	return New(g, IDs{}), nil
}

// Run is [Boot] for a program that shares the link itself, as a relay does. It
// never closes the link. After the end of ctx the link cannot be used.
func (h Handshake) Run(ctx context.Context, link Link) (*Greeting, error) {
	stop := context.AfterFunc(ctx, func() { _ = link.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s := &greeter{link: link, frames: frame.NewReader(link), speaks: cmp.Or(h.Generation, own)}
	g, err := s.run(h)
	if !stop() && ctx.Err() != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return g, err
}

// A greeter is a handshake that is under way.
type greeter struct {
	link   Link
	frames *frame.Reader
	speaks wire.Generation
	last   Greeting // Of the last frame: its bytes and generation.
}

func (s *greeter) run(h Handshake) (*Greeting, error) {
	if h.Bootstrap != nil {
		if err := s.send(h.Bootstrap); err != nil {
			return nil, err
		}
	}
	resolved, err := expect[*wire.InitResolved](s)
	if err != nil {
		return nil, err
	}
	if h.Resolved != nil {
		h.Resolved(resolved.DefaultUser)
	}
	if err := s.send(&wire.InitAck{}); err != nil {
		return nil, err
	}
	ready, err := expect[*wire.Ready](s)
	if err != nil {
		return nil, err
	}
	if v := ready.WorkloadTransportBarrierVersion; v != nil && *v != wire.BarrierVersion {
		return nil, fmt.Errorf("core.ready: workload_transport_barrier_version %d: want %d", *v, wire.BarrierVersion)
	}
	g := s.last
	g.Ready, g.Unread = *ready, s.frames.Buffered()
	g.Link = &resumed{s.link, g.Unread}
	return &g, nil
}

func (s *greeter) send(m wire.Message) error {
	b, err := wire.AppendFrame(nil, s.speaks, 0, m)
	if err != nil {
		return err
	}
	if _, err := s.link.Write(b); err != nil {
		return fmt.Errorf("send %s: %w", m.Type(), err)
	}
	return nil
}

// expect reads one frame that must hold an M.
func expect[M wire.Message](s *greeter) (m M, err error) {
	got, err := s.next()
	if err != nil {
		return m, fmt.Errorf("waiting for %s: %w", m.Type(), err)
	}
	want, ok := got.(M)
	if !ok {
		return m, fmt.Errorf("waiting for %s: got %s", m.Type(), got.Type())
	}
	return want, nil
}

func (s *greeter) next() (wire.Message, error) {
	f, whole, err := s.frames.NextWhole()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the machine ended: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return nil, err
	}
	m, err := wire.Decode(e)
	if err != nil {
		return nil, err
	}
	if refusal, ok := m.(*wire.ProtocolError); ok {
		return nil, &InitError{Message: refusal.Message, Failure: string(refusal.InitFailure)}
	}
	s.last.Frame, s.last.Generation = whole, e.Generation
	return m, nil
}

// An InitError says why the agent cannot boot, in the agent's words.
type InitError struct {
	Message string // With the phase of the boot (docs/BOOT.md section 0).
	Failure string // "user_not_found", "group_not_found" or "unknown".
}

// Error returns a line for people.
func (e *InitError) Error() string { return "the agent says: " + e.Message }

// A resumed link begins with the bytes that were read from it before.
type resumed struct {
	Link
	first []byte
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Link.Read(p)
}
