package session

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

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// connectDeadline bounds the lookup of a name and the connecting, together, as
// in the reference agents (protocol section 10).
const connectDeadline = 30 * time.Second

// maxTCPRecord bounds the records of connections, as in the reference agents.
const maxTCPRecord = 256 << 10

// errUnread says that a peer does not take what the host sends.
var errUnread = fmt.Errorf("the peer left more than %d bytes unread: %w", stdinMemory+stdinStored, syscall.ENOSPC)

// A TCP is one connection from inside the guest. Its methods do not wait.
type TCP struct {
	*stream
	cancel chan struct{} // Closed when nobody wants the connection any more.

	mu     sync.Mutex
	conn   *net.TCPConn // nil until it stands.
	gone   bool         // Nobody wants it any more.
	broken error        // What broke it first.
}

// StartTCP begins to connect and returns at once.
func (h *Host) StartTCP(id uint32, req *wire.TCPConnect, ending Ending) *TCP {
	t := &TCP{cancel: make(chan struct{}), stream: &stream{
		base: h.base(id, ending, unsentTCP, &h.Activity.tcpStreams),
		kind: wire.BulkTCP, flows: wire.FlowHostToGuest | wire.FlowGuestToHost, data: wire.TypeTCPData, count: &h.Activity.tcp,
		name: "TCP session", stray: noOffer, want: math.MaxUint64, full: errUnread,
	}}
	t.stop = func(err error) { t.breaks("write TCP stream: ", err) }
	err := t.open("TCP", req.Bulk, maxTCPRecord, &wire.TCPEOF{})
	go t.guarded(func() { t.run(req, err) })
	return t
}

// unsentTCP stands for a message that cannot be sent, which only a name can cause.
func unsentTCP(why error) wire.Message { return &wire.TCPFailed{Error: why.Error()} }

func (t *TCP) guarded(f func()) {
	t.guard(f, func(why string) { t.finish(&wire.TCPFailed{Error: why}) })
}

// EOF ends our half behind the bytes that were given.
func (t *TCP) EOF() {
	if t.message("EOF") {
		t.in.End()
	}
}

// Detach ends the connection at once, and sends nothing more.
func (t *TCP) Detach() {
	t.detach()
	t.hangUp()
}

// hangUp lets go of the connection, or of the attempt to make it.
func (t *TCP) hangUp() {
	t.in.Drop()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return
	}
	t.gone = true
	close(t.cancel)
	t.to.Fail(errDetached)
	if t.conn != nil {
		_ = t.conn.Close() // What the peer has not got is lost, as it was asked for.
	}
}

// run is the connection from its request to its terminal frame.
func (t *TCP) run(req *wire.TCPConnect, err error) {
	if err == nil {
		err = t.connect(req)
	}
	if err != nil {
		if why := t.why(); why != nil { // It broke before it stood.
			err = why
		}
		t.fail(err)
		return
	}
	t.send(&wire.TCPConnected{})
	t.begin()
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

func (t *TCP) fail(why error) {
	t.farewell(why)
	t.finish(&wire.TCPFailed{Error: why.Error()})
}

// finish ends the session with its one terminal frame.
func (t *TCP) finish(last wire.Message) {
	t.hangUp()
	t.close()
	t.end(t, last)
}

// connect makes the connection.
func (t *TCP) connect(req *wire.TCPConnect) error {
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
		err = errDetached
	}
	if err != nil {
		return connectError(req, err)
	}
	return nil
}

// maxName is more than any name that can be looked up (253 bytes, RFC 1035) and
// any address with its zone.
const maxName = 255

// dial refuses what package net takes for this machine, and what no name can be:
// an answer shows the name, and a thousand of them a frame long may wait.
func dial(ctx context.Context, req *wire.TCPConnect) (*net.TCPConn, error) {
	if req.Host == "" || len(req.Host) > maxName {
		return nil, &net.DNSError{IsNotFound: true}
	}
	return sys.DialTCP(ctx, req.Host, req.Port)
}

// connectError says why there is no connection, as the reference agents' C
// library does.
func connectError(req *wire.TCPConnect, err error) error {
	const lookup = "failed to lookup address information: "
	host := wire.ValidText(req.Host[:min(len(req.Host), maxName)])
	what := "connect " + host + ":" + strconv.Itoa(int(req.Port))
	dns, isLookup := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New(what + " timed out")
	case isLookup && dns.IsNotFound:
		return errors.New(what + ": " + lookup + "Name does not resolve")
	case isLookup:
		return errors.New(what + ": " + lookup + "Try again")
	}
	return failure(what+": ", err)
}

// stands makes the connection known, unless nobody wants it any more.
func (t *TCP) stands(conn *net.TCPConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		_ = conn.Close()
		return false
	}
	t.conn = conn
	return true
}

// listen sends what the peer says until it ends its half.
func (t *TCP) listen() {
	from, err := sys.NewReader(t.conn)
	if err == nil {
		err = t.pump(from).run()
	}
	if errors.Is(err, io.EOF) {
		t.send(t.to.End())
		return
	}
	t.breaks("read TCP stream: ", err)
}

// feed gives the peer what the host says until it ends its half.
func (t *TCP) feed() {
	for {
		p, err := t.in.Next()
		if errors.Is(err, io.EOF) {
			// A peer that has gone altogether needs no end of ours.
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

func (t *TCP) write(p []byte) error {
	n, err := t.conn.Write(p)
	t.count.Add(uint64(n))
	t.consumed(p, n)
	return err
}

// breaks ends both halves for the failure of one. The other half fails then too,
// but only the first is told.
func (t *TCP) breaks(prefix string, err error) {
	t.mu.Lock()
	if t.broken == nil {
		t.broken = failure(prefix, err)
	}
	t.mu.Unlock()
	t.hangUp()
}

func (t *TCP) why() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}
