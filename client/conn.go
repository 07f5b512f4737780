package client

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const (
	// ConnLimit is how many bytes of one connection wait for their reader before
	// the link does: as much as Linux lets a socket's buffer grow to
	// (/proc/sys/net/ipv4/tcp_rmem is 6 MiB, of which a part is overhead).
	ConnLimit = 4 << 20

	// UnreadTimeout is how long the link waits then. A connection that was not read for so
	// long is given up with ErrUnread, so that the others go on.
	UnreadTimeout = 10 * time.Second

	// connRecord is the longest record of a connection that agents agree to.
	connRecord = 256 << 10

	// linger is how long a connection may take to end by itself after both sides have
	// finished or its user has closed it: bytes on their way must reach the peer, and no
	// agent reports when they have. Agents up to 0.6.14 never report the end of a
	// connection, and keep it until they are asked to close it.
	linger = 5 * time.Second
)

// ErrUnread says that a connection was given up because its user did not read it.
var ErrUnread = errors.New("connection given up: its data was left unread and held up the agent link")

// A Conn is a connection that begins in the guest, to a port or to a Unix socket of the guest, or
// one to a [Listener] there: a [net.Conn] with the half closes of [net.TCPConn]. Its errors are a
// [*net.OpError].
//
// With raw records (see [Bulk]) both ends grant each other credit. A Write waits when the
// peer does not read. Bytes that are not read here wait in the guest, except for
// [ConnLimit].
//
// Without raw records there is no credit, and Write returns when its bytes are on their
// way. Bytes that the peer does not read wait in the guest, up to 260 MiB with this
// project's agent; more than that breaks the connection. Bytes that are not read here wait
// here, up to [ConnLimit], and then block the link for [UnreadTimeout] at most.
//
// Close does not discard written bytes: they still arrive.
type Conn struct {
	flows
	net    string
	udp    bool
	local  net.Addr // nil if the guest has not told it.
	remote net.Addr // Of a listener's connection: set before connected is closed.

	in        *stream
	out       *mux.Outbox
	readTime  deadline
	writeTime deadline
	writable  *stopChan // Shut by the deadline and by Close.
	writing   sync.Mutex

	connected chan struct{}
	over      chan struct{}

	mu     sync.Mutex
	stands bool
	closed bool // By the user.
	reset  bool // Close resets it.
	sent   bool // Our half has ended.
	got    bool // The peer's half has ended.
	ended  bool
	err    error // Why it ended, nil for a regular end.
	wait   *time.Timer
}

func newConn(c *Client, network string, req *wire.TCPConnect) *Conn {
	n := &Conn{
		net: network, udp: req.UDP, remote: addrOf(req),
		in: newStream(ConnLimit), out: c.writer.Outbox(0), writable: newStopChan(),
		connected: make(chan struct{}), over: make(chan struct{}),
	}
	if req.Bulk = c.offer(ConnLimit); req.Bulk != nil {
		req.Bulk.MaxRecordPayload = min(req.Bulk.MaxRecordPayload, connRecord)
		// The window is the bound; and small pieces that come within it cost more.
		n.in.limit = math.MaxInt
	}
	n.init(c, wire.BulkTCP, wire.FlowHostToGuest|wire.FlowGuestToHost, req.Bulk, wire.TypeTCPData, new(wire.TCPEOF))
	n.in.pushTimeout = UnreadTimeout
	n.readTime.apply = n.in.expire
	n.writeTime.apply = n.expireWrites
	return n
}

// request begins to connect.
func (n *Conn) request(req *wire.TCPConnect) error {
	err := n.c.calls.add(func(id uint32) receiver {
		n.id = id
		return n
	})
	if err != nil {
		return err
	}
	b, err := n.c.encode(n.id, req)
	if err == nil && n.out.Send(b) != nil { // The first frame of an outbox never waits.
		<-n.over // The link has ended, or the agent has answered before the request.
		err = firstOf(n.why(), errUnexpected)
	}
	if err != nil {
		n.c.calls.remove(n.id, n)
	}
	return err
}

// receive takes a message; see receiver.
func (n *Conn) receive(e wire.Envelope) error {
	switch {
	case e.Type == wire.TypeTCPData:
		return n.receiveData(e)
	case e.Type == wire.TypeBulkAccepted && !n.isConnected():
		return errUnexpected
	case isFlow(e.Type):
		err := n.receiveFlow(e)
		if err == nil && e.Type == wire.TypeBulkFinish {
			n.heardAll()
		}
		return err
	}
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.TCPConnected:
		return n.stand(m)
	case *wire.TCPEOF:
		if err := n.from.Message(); err != nil {
			return err
		}
		n.in.finish(io.EOF)
		n.half(&n.got)
	case *wire.TCPClosed:
		if !n.isConnected() || !n.from.Whole() {
			return errUnexpected
		}
		n.finish(nil)
	case *wire.TCPFailed:
		n.finish(newGuestError(m.Error))
	default:
		return errUnexpected
	}
	return nil
}

func (n *Conn) receiveData(e wire.Envelope) error {
	data, err := wire.DataOf(e)
	if err = firstOf(err, n.from.Message()); err != nil {
		return err
	}
	n.mu.Lock()
	misplaced := !n.stands || n.got
	n.mu.Unlock()
	if misplaced {
		return errUnexpected
	}
	if !n.in.push(data) && errors.Is(n.in.ended(), ErrUnread) {
		n.abort(ErrUnread)
	}
	return nil
}

// record takes a piece of the peer's bytes.
func (n *Conn) record(r wire.Record) error {
	if _, err := n.from.Record(r); err != nil {
		return err
	}
	if !n.in.push(r.Data) {
		n.from.Consumed(len(r.Data)) // The user has closed it; let the peer finish.
	}
	n.heardAll()
	return nil
}

// heardAll ends the peer's half when all of its bytes have come.
func (n *Conn) heardAll() {
	if n.from.Whole() {
		n.in.finish(io.EOF)
		n.half(&n.got)
	}
}

func (n *Conn) stand(m *wire.TCPConnected) error {
	local, remote, err := n.told(m)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stands || n.ended {
		return errUnexpected
	}
	n.stands = true
	n.local, n.remote = local, remote
	close(n.connected)
	return nil
}

// told has the addresses of a connection. Those of a listener's connection come from the guest.
func (n *Conn) told(m *wire.TCPConnected) (local, remote net.Addr, err error) {
	if n.remote != nil {
		return nil, n.remote, nil
	}
	if local, err = guestAddress(n.net, m.Local); err == nil {
		remote, err = guestAddress(n.net, m.Remote)
	}
	return local, remote, err
}

func (n *Conn) isConnected() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stands
}

// fail ends it because of a bad frame, or with the link.
func (n *Conn) fail(err error) { n.abort(err) }

// abort ends a connection that the agent still has.
func (n *Conn) abort(err error) { n.give(err, false) }

// give ends a connection that the agent still has, by a reset or an ordinary end.
func (n *Conn) give(err error, reset bool) {
	if !n.finish(err) {
		return
	}
	n.c.calls.remove(n.id, n) // No agent answers this.
	n.c.farewell(n.id, &wire.TCPClose{Reset: reset})
}

// finish ends the connection; only the first call does. It returns true.
func (n *Conn) finish(err error) bool {
	n.mu.Lock()
	again := n.ended
	if !again {
		n.ended, n.err = true, err
		if n.wait != nil {
			n.wait.Stop()
		}
	}
	n.mu.Unlock()
	if again {
		return false
	}
	n.in.finish(firstOf(err, io.EOF))
	n.from.End()
	n.to.Fail(errOver)
	n.out.Discard()
	close(n.over)
	return true
}

func (n *Conn) why() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// half notes the end of one half, once; after that of both the connection ends.
func (n *Conn) half(which *bool) (first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first, *which = !*which, true
	if n.sent && n.got {
		n.lingerLocked()
	}
	return first
}

func (n *Conn) lingerLocked() {
	if n.wait == nil && !n.ended {
		n.wait = time.AfterFunc(linger, func() { n.abort(nil) })
	}
}

// Read reads bytes that have arrived, and waits for some if there are none.
func (n *Conn) Read(p []byte) (int, error) {
	m, err := n.in.Read(p)
	n.from.Consumed(m)
	return m, n.readError(err)
}

// WriteTo writes the bytes that arrive to w, without a copy in between.
func (n *Conn) WriteTo(w io.Writer) (int64, error) {
	to := &sink{w: w, from: n.from}
	m, err := n.in.WriteTo(to)
	if to.failed {
		return m, err // It is w's.
	}
	return m, n.readError(err)
}

// A sink notes that a writer's error is its own.
type sink struct {
	w      io.Writer
	from   flow.Receiver // Whose bytes are consumed by that.
	failed bool
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.failed = err != nil || n < len(p)
	s.from.Consumed(len(p)) // The rest of them is lost.
	return n, err
}

// readError is the error of a Read as package net has it.
func (n *Conn) readError(err error) error {
	switch {
	case err == nil:
		return nil
	case n.isClosed():
		err = net.ErrClosed
	case err == io.EOF || errors.Is(err, os.ErrClosed): //nolint:errorlint // Ours, and bare.
		return io.EOF // After CloseRead too.
	}
	return n.opError("read", err)
}

func (n *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: n.net, Source: n.LocalAddr(), Addr: n.remote, Err: err}
}

func (n *Conn) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// Write sends p.
func (n *Conn) Write(p []byte) (int, error) {
	n.writing.Lock()
	defer n.writing.Unlock()
	total := 0
	for total < len(p) {
		sent, err := n.send(p[total:])
		total += sent
		if err != nil {
			return total, n.opError("write", err)
		}
	}
	return total, nil
}

// send queues what of p fits a frame.
func (n *Conn) send(p []byte) (sent int, err error) {
	stop, shut := n.writable.wait()
	if err := n.cannotWrite(); err != nil {
		return 0, err
	}
	if shut {
		return 0, os.ErrDeadlineExceeded
	}
	piece := p[:min(len(p), stdinChunk)]
	if sent, err = n.piece(n.out, nil, piece, stop); sent > 0 {
		return sent, nil
	}
	if err := n.cannotWrite(); err != nil {
		return 0, err
	}
	if err != nil {
		return 0, n.c.reason() // The link has ended, and everything else will hear of it.
	}
	return 0, nil // The deadline has passed, if it has not been moved, or there is credit.
}

// cannotWrite says why nothing can be written any more.
func (n *Conn) cannotWrite() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return net.ErrClosed
	case n.sent:
		return epipe
	case n.ended:
		return firstOf(n.err, epipe)
	default:
		return nil
	}
}

// CloseWrite ends the direction to the peer, after the bytes that were written.
func (n *Conn) CloseWrite() error {
	if err := n.cannotWrite(); err != nil {
		return n.opError("close", err)
	}
	n.endWrites()
	return nil
}

// endWrites tells the agent, once, that no more bytes come.
func (n *Conn) endWrites() {
	switch {
	case !n.half(&n.sent): // Before a Write that waits looks again.
	case n.offer != nil:
		go n.finishWrites()
	default:
		n.tell(n.to.End())
	}
}

// finishWrites tells the agent how much was written. It waits for a Write that is under
// way, and until the agent knows the flow.
func (n *Conn) finishWrites() {
	n.to.Wake()
	n.writing.Lock()
	defer n.writing.Unlock()
	if n.to.AwaitOpen() == nil {
		n.tell(n.to.End())
	}
}

// tell queues a message after the bytes that were written.
func (n *Conn) tell(m wire.Message) {
	if b, err := n.c.encode(n.id, m); err == nil {
		_ = n.out.Put(b) // Fails only if the link has ended.
	}
}

// CloseRead discards all bytes that were not read and all that arrive later.
func (n *Conn) CloseRead() error {
	if n.isClosed() {
		return n.opError("close", net.ErrClosed)
	}
	n.from.Consumed(n.in.discard()) // The peer may go on.
	return nil
}

// SetLinger with 0 makes Close discard the written bytes that are not sent yet, and reset the
// connection, so that the peer does not take the bytes that it has for all of them. Other values undo
// that. It needs [ExtensionListen].
func (n *Conn) SetLinger(seconds int) error {
	if err := n.c.needs(ExtensionListen, "reset a connection"); err != nil {
		return n.opError("set", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reset = seconds == 0
	return nil
}

// Close ends the connection. Written bytes still arrive. Bytes from the peer are
// discarded, and after five seconds the connection is closed in the guest.
func (n *Conn) Close() error {
	n.mu.Lock()
	again, reset := n.closed, n.reset
	n.closed = true
	n.mu.Unlock()
	if again {
		return n.opError("close", net.ErrClosed)
	}
	if reset {
		n.give(net.ErrClosed, true)
	}
	n.from.Consumed(n.in.discard())
	n.writeTime.set(time.Time{})
	n.readTime.set(time.Time{})
	n.writable.set(true)
	n.endWrites()
	n.mu.Lock()
	n.lingerLocked()
	n.mu.Unlock()
	return nil
}

// expireWrites is the deadline of Writes.
func (n *Conn) expireWrites(passed bool) { n.writable.set(passed || n.isClosed()) }

// LocalAddr returns the address in the guest of a listener's connection. For others it is
// a placeholder: the guest does not report it.
func (n *Conn) LocalAddr() net.Addr {
	if n.local != nil {
		return n.local
	}
	if n.net == "unix" {
		return remoteAddr(n.net, "") // As of a socket without a name.
	}
	return guestAddr("guest")
}

// RemoteAddr returns the address that was dialed, or that of the program of the guest that
// has connected to a [Listener].
func (n *Conn) RemoteAddr() net.Addr { return n.remote }

// SetDeadline sets both deadlines.
func (n *Conn) SetDeadline(t time.Time) error {
	return firstOf(n.SetReadDeadline(t), n.SetWriteDeadline(t))
}

// SetReadDeadline sets the time at which Reads stop waiting; zero means never.
func (n *Conn) SetReadDeadline(t time.Time) error { return n.set(&n.readTime, t) }

// SetWriteDeadline sets the time at which Writes stop waiting; zero means never.
func (n *Conn) SetWriteDeadline(t time.Time) error { return n.set(&n.writeTime, t) }

func (n *Conn) set(d *deadline, t time.Time) error {
	if n.isClosed() {
		return n.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}
