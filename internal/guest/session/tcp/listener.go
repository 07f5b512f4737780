package tcp

import (
	"net"
	"sync"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// A Listener is a session that listens in the guest (protocol section 10.1). Each of its
// connections becomes a session of its own when the host asks for the next one: see Start.
// One that nobody has asked for yet waits here, the others in the kernel's queue, so a flood
// of connections costs the agent nothing. Its methods do not wait.
type Listener struct {
	*session.Base
	next chan accepted // Without room, so that the listener runs one connection ahead.
	gone chan struct{} // Closed by hangUp.

	mu       sync.Mutex
	listener *sys.Listener // nil until it listens.
	over     bool          // hangUp was called.
}

// An accepted is a connection, or why there is none.
type accepted struct {
	conn  sys.Conn
	names wire.TCPConnected
	err   error
}

// Listen begins to listen and returns at once.
func Listen(h *session.Host, id uint32, req *wire.TCPConnect, ending session.Ending) *Listener {
	l := &Listener{Base: h.NewBase(id, ending, unsent, nil), next: make(chan accepted), gone: make(chan struct{})}
	go l.Guard(func() { l.run(req) }, func(why string) { l.finish(&wire.TCPFailed{Error: why}) })
	return l
}

// Message handles the host's wish to end it.
func (l *Listener) Message(m wire.Message) {
	if _, end := m.(*wire.TCPEOF); end {
		l.hangUp()
	}
}

// Detach ends the listener at once and sends nothing more to the host.
func (l *Listener) Detach() {
	l.Base.Detach()
	l.hangUp()
}

func (l *Listener) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.gone)
	if l.listener != nil {
		_ = l.listener.Close()
	}
}

func (l *Listener) finish(last wire.Message) {
	l.hangUp()
	l.End(l, last)
}

// run does the whole session.
func (l *Listener) run(req *wire.TCPConnect) {
	listener, err := listen(req)
	if err != nil {
		l.finish(&wire.TCPFailed{Error: session.Failure("listen: ", err).Error()})
		return
	}
	if l.stands(listener) {
		l.Send(&wire.TCPConnected{Local: wire.ValidText(listener.Address)})
		l.serve(listener)
	}
	l.finish(new(wire.TCPClosed))
}

func listen(req *wire.TCPConnect) (*sys.Listener, error) {
	switch req.Listen {
	case wire.NetUnix:
		return sys.ListenUnix(req.Unix)
	case wire.NetTCP, wire.NetTCP4, wire.NetTCP6:
		return sys.ListenTCP(req.Listen, req.Host, req.Port)
	}
	return nil, session.WholeError("listen: want the network tcp, tcp4, tcp6 or unix")
}

// serve gives connections to those who wait for them until hangUp.
func (l *Listener) serve(listener *sys.Listener) {
	for {
		var a accepted
		a.conn, a.names.Local, a.names.Remote, a.err = listener.Accept()
		a.names.Remote = wire.ValidText(a.names.Remote) // The peer of a Unix socket chooses its name.
		select {
		case l.next <- a:
		case <-l.gone:
			if a.err == nil {
				_ = a.conn.Close() // Nobody has asked for it.
			}
			return
		}
	}
}

// stands makes the listener known to hangUp. It closes it if that was called already.
func (l *Listener) stands(listener *sys.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		_ = listener.Close()
		return false
	}
	l.listener = listener
	return true
}

// take waits for the next connection. Those who wait longer are served first.
func (l *Listener) take(cancel <-chan struct{}) (accepted, error) {
	select {
	case a := <-l.next:
		return a, a.err
	case <-l.gone:
		return accepted{}, net.ErrClosed
	case <-cancel:
		return accepted{}, session.ErrDetached
	}
}
