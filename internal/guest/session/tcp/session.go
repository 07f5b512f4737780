package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// connectDeadline bounds the lookup of a name and the connecting, together, as
// in the reference agents (protocol section 10).
const connectDeadline = 30 * time.Second

// maxRecord bounds the records of connections, as in the reference agents.
const maxRecord = 256 << 10

// errUnread says that a peer does not read the host's bytes.
var errUnread = fmt.Errorf("the peer left more than %d bytes unread: %w", session.MaxInput, syscall.ENOSPC)

// A Session is one connection from inside the guest. Its methods do not wait.
type Session struct {
	*session.Stream
	UDP    bool      // Its bytes are datagrams.
	from   *Listener // Whose next connection it is; nil if it connects.
	names  wire.TCPConnected
	cancel chan struct{} // Closed by hangUp.

	mu     sync.Mutex
	conn   sys.Conn // nil until it is connected.
	gone   bool     // hangUp was called.
	broken error    // The first failure.
}

// Start begins to connect, or to wait for the next connection of a listener that is not
// nil, and returns at once.
func Start(h *session.Host, id uint32, req *wire.TCPConnect, from *Listener, ending session.Ending) *Session {
	t := &Session{UDP: req.UDP, from: from, cancel: make(chan struct{})}
	var err error
	t.Stream, err = session.NewStream(h.NewBase(id, ending, unsent, &h.Activity.TCPStreams), session.Moves{
		Kind: wire.BulkTCP, Flows: wire.FlowHostToGuest | wire.FlowGuestToHost,
		Data: wire.TypeTCPData, Last: &wire.TCPEOF{}, Count: &h.Activity.TCP,
		Record: maxRecord, Want: math.MaxUint64,
		Name: "TCP session", Offer: "TCP", Stray: session.NoOffer, Full: errUnread,
		Stop: func(err error) { t.breaks("write TCP stream: ", err) },
	}, req.Bulk)
	go t.guarded(func() { t.run(req, err) })
	return t
}

// unsent replaces a message that cannot be encoded: a name can make one too long.
func unsent(why error) wire.Message { return &wire.TCPFailed{Error: why.Error()} }

func (t *Session) guarded(f func()) {
	t.Guard(f, func(why string) { t.finish(&wire.TCPFailed{Error: why}) })
}

// Message handles the end of the host's half, or a message about a flow.
func (t *Session) Message(m wire.Message) {
	if _, end := m.(*wire.TCPEOF); !end {
		t.Stream.Message(m)
	} else if t.Messages("EOF") {
		t.In.End() // After the bytes that are queued.
	}
}

// Detach ends the connection at once and sends nothing more to the host.
func (t *Session) Detach() {
	t.Base.Detach()
	t.hangUp()
}

// Reset is Detach, and the peer is told that its data was not whole.
func (t *Session) Reset() {
	t.mu.Lock()
	if t.conn != nil {
		_ = sys.ResetOnClose(t.conn) // Fails only if the connection has ended.
	}
	t.mu.Unlock()
	t.Detach()
}

// hangUp closes the connection, or ends the attempt to connect.
func (t *Session) hangUp() {
	t.In.Drop()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return
	}
	t.gone = true
	close(t.cancel)
	t.To.Fail(session.ErrDetached)
	if t.conn != nil {
		_ = t.conn.Close() // Bytes that the peer has not received are lost, as the host asked.
	}
}

// run does the whole session, from its request to its terminal frame. refused says what is
// wrong with the request's offer.
func (t *Session) run(req *wire.TCPConnect, refused error) {
	err := refused
	if err == nil || t.Host.Generation >= wire.BarrierSince { // Whose reference agents connect first.
		err = t.connect(req)
	}
	if err != nil {
		if why := t.why(); why != nil { // A failure before the connection was open.
			err = why
		}
		t.fail(err)
		return
	}
	t.Send(&t.names)
	if refused != nil {
		t.fail(refused)
		return
	}
	t.Begin()
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		t.guarded(t.feed)
	}()
	t.listen()
	<-fed
	if why := t.why(); why != nil {
		t.fail(why)
		return
	}
	t.finish(&wire.TCPClosed{})
}

func (t *Session) fail(why error) {
	t.Farewell(why)
	t.finish(&wire.TCPFailed{Error: why.Error()})
}

// finish ends the session with its one terminal frame.
func (t *Session) finish(last wire.Message) {
	t.hangUp()
	t.ReturnWindow()
	t.End(t, last)
}

// accept waits for the next connection of the listener.
func (t *Session) accept() error {
	a, err := t.from.take(t.cancel)
	if err == nil && !t.stands(a.conn) {
		err = session.ErrDetached
	}
	t.names = a.names
	return session.Failure("accept: ", err)
}

// connect makes the connection.
func (t *Session) connect(req *wire.TCPConnect) error {
	if t.from != nil {
		return t.accept()
	}
	ctx, stop := context.WithTimeout(context.Background(), connectDeadline)
	defer stop()
	go func() {
		select {
		case <-t.cancel:
			stop()
		case <-ctx.Done():
		}
	}()
	conn, err := dial(ctx, req)
	if err == nil && !t.stands(conn) {
		err = session.ErrDetached
	}
	if err != nil {
		return connectError(req, err)
	}
	if d, ok := conn.(*sys.Datagrams); ok {
		t.names = wire.TCPConnected{Local: d.LocalAddr().String(), Remote: d.RemoteAddr().String()}
	}
	return nil
}

// maxName is longer than any name that can be looked up (253 bytes, RFC 1035) and any
// address with its zone.
const maxName = 255

// dial refuses the empty name, which package net takes for this machine, and names that
// are too long: an answer repeats the name, and a thousand answers may wait.
func dial(ctx context.Context, req *wire.TCPConnect) (sys.Conn, error) {
	if req.Unix != "" {
		return sys.DialUnix(ctx, req.Unix)
	}
	if req.Host == "" || len(req.Host) > maxName {
		return nil, &net.DNSError{IsNotFound: true}
	}
	if req.UDP {
		return sys.DialUDP(ctx, req.Host, req.Port)
	}
	return sys.DialTCP(ctx, req.Host, req.Port)
}

// connectError says why there is no connection, in the words of the reference agents' C
// library.
func connectError(req *wire.TCPConnect, err error) error {
	const lookup = "failed to lookup address information: "
	host := wire.ValidText(req.Host[:min(len(req.Host), maxName)])
	what := "connect " + host + ":" + strconv.Itoa(int(req.Port))
	if req.Unix != "" {
		what = "connect " + session.Repeated(req.Unix)
	}
	dns, isLookup := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New(what + " timed out")
	case isLookup && dns.IsNotFound:
		return errors.New(what + ": " + lookup + "Name does not resolve")
	case isLookup:
		return errors.New(what + ": " + lookup + "Try again")
	}
	return session.Failure(what+": ", err)
}

// stands makes the connection known to the session's methods. It closes the connection if
// the session has hung up.
func (t *Session) stands(conn sys.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		_ = conn.Close()
		return false
	}
	t.conn = conn
	return true
}

// listen sends the peer's bytes to the host until the peer ends its half.
func (t *Session) listen() {
	from, err := source(t.conn)
	if err == nil {
		err = t.Pump(from).Run()
	}
	if errors.Is(err, io.EOF) {
		t.Send(t.To.End())
		return
	}
	t.breaks("read TCP stream: ", err)
}

// source reads a connection. Datagrams are one by themselves.
func source(conn sys.Conn) (session.Source, error) {
	if d, ok := conn.(session.Source); ok {
		return d, nil
	}
	return sys.NewReader(conn)
}

// feed writes the host's bytes to the peer until the host ends its half.
func (t *Session) feed() {
	for {
		p, err := t.In.Next()
		if errors.Is(err, io.EOF) {
			// ENOTCONN: the peer has gone, and needs no end.
			if err := t.conn.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
				t.breaks("shutdown TCP stream: ", err)
			}
			return
		}
		if err == nil {
			err = t.write(p)
		}
		if err != nil {
			t.breaks("write TCP stream: ", err)
			return
		}
	}
}

func (t *Session) write(p []byte) error {
	n, err := t.conn.Write(p)
	t.Consumed(p, n)
	return err
}

// breaks ends both halves after one has failed. The other half fails then too; only the
// first failure is reported.
func (t *Session) breaks(prefix string, err error) {
	t.mu.Lock()
	if t.broken == nil {
		t.broken = session.Failure(prefix, err)
	}
	t.mu.Unlock()
	t.hangUp()
}

func (t *Session) why() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}
