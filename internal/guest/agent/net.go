package agent

import (
	"strconv"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/session/tcp"
	"github.com/agentd-go/agentd/wire"
)

const (
	// maxListeners bounds the listeners of one client. Each holds two descriptors, three with
	// a Unix socket, and a goroutine.
	maxListeners = 64

	// maxDatagrams bounds the UDP sockets of all clients. Each may hold one datagram of
	// 64 KiB that its host does not read, together 16 MiB.
	maxDatagrams = 256
)

// connection decides what session a request asks for, or why there is none. Errors of the
// session begin with what.
func (a *Agent) connection(id uint32, req *wire.TCPConnect) (what string, start func(session.Ending) session.Session, why string) {
	switch {
	case req.Listen != "":
		start = func(ending session.Ending) session.Session { return tcp.Listen(a.host, id, req, ending) }
		if a.count(func(other uint32, s session.Session) bool {
			_, is := s.(*tcp.Listener)
			return is && slotOf(other) == slotOf(id)
		}) >= maxListeners {
			why = "the client has " + strconv.Itoa(maxListeners) + " listeners already"
		}
		return "listen: ", start, why
	case req.Listener != nil:
		from, ok := a.session(*req.Listener).(*tcp.Listener)
		if !ok || slotOf(id) != slotOf(*req.Listener) {
			return "accept: ", nil, "id " + number(*req.Listener) + " has no listener"
		}
		return "accept: ", func(ending session.Ending) session.Session { return tcp.Start(a.host, id, req, from, ending) }, ""
	}
	what = "connect " + req.Host + ":" + strconv.Itoa(int(req.Port)) + ": "
	if req.UDP && a.count(isUDP) >= maxDatagrams {
		return what, nil, "there are " + strconv.Itoa(maxDatagrams) + " UDP sockets already"
	}
	return what, func(ending session.Ending) session.Session { return tcp.Start(a.host, id, req, nil, ending) }, ""
}

// count counts the sessions of a kind.
func (a *Agent) count(is func(id uint32, s session.Session) bool) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.sessions {
		if is(id, s) {
			n++
		}
	}
	return n
}

func isUDP(_ uint32, s session.Session) bool {
	t, is := s.(*tcp.Session)
	return is && t.UDP
}

// abort ends a connection or a listener. The host gets no answer and may use the id at once.
func (a *Agent) abort(id uint32, m *wire.TCPClose) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[id]
	switch s := s.(type) {
	case *tcp.Session:
		if m.Reset {
			s.Reset()
		} else {
			s.Detach()
		}
	case *tcp.Listener:
		s.Detach()
	default:
		return
	}
	delete(a.sessions, id)
	a.ended.add(id)
}
