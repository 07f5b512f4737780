package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// Listen listens in the guest, as [Client.ListenContext] does.
func (c *Client) Listen(network, address string) (net.Listener, error) {
	return c.ListenContext(context.Background(), network, address)
}

// ListenContext listens in the guest for programs of the guest, whose connections the caller
// serves. It has the signature of [net.ListenConfig.Listen], and the listener is a
// [*Listener]. The network is "tcp", "tcp4" or "tcp6" with HOST:PORT: the host is an address
// of the guest, "localhost" or empty for all addresses, and port 0 is any free port. Or it is
// "unix" with the absolute path of a socket that does not exist, or an abstract name after "@".
// Only root may connect to the file of a new socket: [Client.Chown] and [Client.Chmod] change
// that. ctx bounds only the call.
//
// The error is a [*net.OpError] with a [*GuestError]. It needs [ExtensionListen]. One client
// can have 64 listeners.
func (c *Client) ListenContext(ctx context.Context, network, address string) (net.Listener, error) {
	l, err := c.listen(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: remoteAddr(network, address), Err: err}
	}
	return l, nil
}

func (c *Client) listen(ctx context.Context, network, address string) (*Listener, error) {
	if err := c.needs(ExtensionListen, "listening in the guest"); err != nil {
		return nil, err
	}
	req, err := listenRequest(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l := &Listener{c: c, net: network, began: make(chan struct{}), over: make(chan struct{}), shut: newStopChan()}
	l.deadline.apply = l.shut.set
	if err := c.open(req, func(id uint32) receiver {
		l.id = id
		return l
	}); err != nil {
		return nil, err
	}
	select {
	case <-l.began:
		return l, nil
	case <-l.over:
		return nil, l.why()
	case <-ctx.Done():
		_ = l.Close()
		return nil, ctx.Err()
	}
}

// open begins a session by its request.
func (c *Client) open(req wire.Message, newReceiver func(id uint32) receiver) error {
	var r receiver
	var id uint32
	err := c.calls.add(func(given uint32) receiver {
		id, r = given, newReceiver(given)
		return r
	})
	if err != nil {
		return err
	}
	b, err := c.encode(id, req)
	if err == nil {
		err = c.post(b)
	}
	if err != nil {
		c.calls.remove(id, r)
	}
	return err
}

// listenRequest makes the protocol's request for a listener.
func listenRequest(ctx context.Context, network, address string) (*wire.TCPConnect, error) {
	switch network {
	case wire.NetTCP, wire.NetTCP4, wire.NetTCP6:
	case wire.NetUnix:
		if !strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "@") {
			return nil, &net.AddrError{Err: "not an absolute path, and no abstract name", Addr: address}
		}
		return &wire.TCPConnect{Listen: network, Unix: address}, nil
	default:
		return nil, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	if host, err = listenHost(network, host); err != nil {
		return nil, err
	}
	return &wire.TCPConnect{Listen: network, Host: host, Port: uint16(port)}, nil
}

// listenHost is the address that a listener's host means.
func listenHost(network, host string) (string, error) {
	if host == "localhost" {
		if network == wire.NetTCP6 {
			return "::1", nil
		}
		return "127.0.0.1", nil
	}
	if host == "" {
		return "", nil
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "", &net.AddrError{Err: "want an address of the guest, localhost, or nothing", Addr: host}
	case network == wire.NetTCP4 && !ip.Unmap().Is4(), network == wire.NetTCP6 && !ip.Is6():
		return "", &net.AddrError{Err: "not an address for network " + network, Addr: host}
	}
	return host, nil
}

// A Listener listens in the guest: a [net.Listener] with the deadline of [net.TCPListener].
// Its errors are a [*net.OpError]. They are [net.ErrClosed] only after Close; if the link has
// ended, or the guest has ended the listener, they say so.
//
// A connection that nobody has accepted waits in the guest. Beyond what the guest's kernel
// holds (/proc/sys/net/core/somaxconn, 4096) it takes no more.
type Listener struct {
	c    *Client
	id   uint32
	net  string
	addr net.Addr // Set before began is closed.

	began chan struct{}
	over  chan struct{}

	deadline deadline
	shut     *stopChan // Shut while the deadline has passed.

	mu     sync.Mutex
	idle   []*Conn // Requests for a connection that no Accept waits for.
	heard  bool    // The guest listens.
	closed bool    // By the user.
	ended  bool
	err    error // Why it ended.
}

// receive takes a message; see receiver.
func (l *Listener) receive(e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.TCPConnected:
		return l.begin(m.Local)
	case *wire.TCPClosed:
		l.finish(newGuestError("the guest has ended the listener"))
		return nil
	case *wire.TCPFailed:
		l.finish(newGuestError(m.Error))
		return nil
	}
	return errUnexpected
}

func (l *Listener) begin(address string) error {
	addr, err := guestAddress(l.net, address)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard {
		return errUnexpected
	}
	l.heard, l.addr = true, addr
	close(l.began)
	return nil
}

// fail ends it because of a bad frame, or with the link.
func (l *Listener) fail(err error) {
	l.finish(err)
	l.c.calls.remove(l.id, l)
	l.c.farewell(l.id, new(wire.TCPClose))
}

// finish ends the listener, and the requests for its connections. Only the first call does so.
func (l *Listener) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended, l.err = true, err
	for _, n := range l.idle {
		n.abort(err)
	}
	l.idle = nil
	close(l.over)
}

func (l *Listener) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	return l.err
}

// guestAddress reads an address that the guest has told.
func guestAddress(network, text string) (net.Addr, error) {
	if network == wire.NetUnix {
		return &net.UnixAddr{Name: text, Net: network}, nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(network, "udp") {
		return net.UDPAddrFromAddrPort(at), nil
	}
	return net.TCPAddrFromAddrPort(at), nil
}

// Addr returns the address in the guest, with the port that was chosen.
func (l *Listener) Addr() net.Addr { return l.addr }

// Accept waits for the next connection. It is a [*Conn] whose addresses are those in the guest.
func (l *Listener) Accept() (net.Conn, error) {
	n, err := l.accept()
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: l.net, Addr: l.addr, Err: err}
	}
	return n, nil
}

func (l *Listener) accept() (*Conn, error) {
	late, passed := l.shut.wait()
	if passed {
		return nil, firstOf(l.why(), os.ErrDeadlineExceeded)
	}
	n, err := l.ask()
	if err != nil {
		return nil, err
	}
	select {
	case <-n.connected:
		return n, nil
	case <-n.over:
		if n.isConnected() {
			return n, nil // It has ended since: Read and Write say how.
		}
		return nil, firstOf(l.why(), acceptError(n.why()))
	case <-l.over:
		n.abort(l.why())
		return nil, l.why()
	case <-late:
		l.keep(n)
		return nil, firstOf(l.why(), os.ErrDeadlineExceeded)
	}
}

// ask returns a request for the next connection: one that an Accept has left, or a new one.
func (l *Listener) ask() (*Conn, error) {
	if err := l.why(); err != nil {
		return nil, err
	}
	if n := l.waiting(); n != nil {
		return n, nil
	}
	req := &wire.TCPConnect{Listener: &l.id}
	n := newConn(l.c, l.net, req)
	return n, n.request(req)
}

// waiting takes the oldest request that an Accept has left, or nil.
func (l *Listener) waiting() *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.idle) == 0 {
		return nil
	}
	n := l.idle[0]
	l.idle = l.idle[1:]
	return n
}

// keep leaves a request for a later Accept: the guest may have answered it already.
func (l *Listener) keep(n *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		n.abort(l.err)
		return
	}
	l.idle = append(l.idle, n)
}

// Close ends the listener. Connections that were accepted go on; those that were not are
// closed. It returns when the guest has closed it, so that the address is free.
func (l *Listener) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	waiting := !l.ended
	l.mu.Unlock()
	if again {
		return &net.OpError{Op: "close", Net: l.net, Addr: l.addr, Err: net.ErrClosed}
	}
	l.deadline.set(time.Time{})
	if !waiting {
		return nil
	}
	l.c.farewell(l.id, new(wire.TCPEOF))
	select {
	case <-l.over:
	case <-time.After(closeWait): // The link is stalled, and will take it later.
		l.finish(net.ErrClosed)
	}
	return nil
}

// SetDeadline sets the time at which Accepts stop waiting; zero means never.
func (l *Listener) SetDeadline(t time.Time) error {
	if err := l.why(); err != nil {
		return &net.OpError{Op: "set", Net: l.net, Addr: l.addr, Err: err}
	}
	l.deadline.set(t)
	return nil
}

// A lostConnError is a connection that the guest could not give, for want of descriptors for
// example. The next may succeed: servers such as that of net/http go on.
type lostConnError struct{ error }

// Timeout returns false.
func (lostConnError) Timeout() bool { return false }

// Temporary returns true.
func (lostConnError) Temporary() bool { return true }

// Unwrap returns the guest's error.
func (e lostConnError) Unwrap() error { return e.error }

// acceptError marks an error of the guest as one of this connection alone.
func acceptError(err error) error {
	if _, ok := errors.AsType[*GuestError](err); ok {
		return lostConnError{err}
	}
	return err
}
