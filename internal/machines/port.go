package machines

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Port forwards a port of the host to the guest.
type Port struct {
	Host  string `json:"host"`  // ADDRESS:PORT to listen at; port 0 means any free port.
	Guest string `json:"guest"` // ADDRESS:PORT to connect to in the guest.

	// Reverse leads the other way: the guest listens, and the host connects. Then both may
	// be names of Unix sockets.
	Reverse bool `json:"reverse,omitempty"`

	Protocol string `json:"protocol,omitempty"` // "udp", or empty for TCP and Unix sockets.
}

const udp = "udp"

// String returns HOST -> GUEST[/udp], or GUEST -> HOST with Reverse.
func (p Port) String() string {
	if p.Reverse {
		return p.Guest + " -> " + p.Host
	}
	if p.Protocol != "" {
		return p.Host + " -> " + p.Guest + "/" + p.Protocol
	}
	return p.Host + " -> " + p.Guest
}

// A Dialer connects to something in a guest, as net.Dialer does on a host.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// local6 is the guest's IPv6 loopback address. Some servers listen only there: those
// that resolve "localhost" and take its first address.
const local6 = "::1"

// Dial connects to the port's guest side, for [Forward].
func (p Port) Dial(d Dialer) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", p.Guest)
		host, port, _ := net.SplitHostPort(p.Guest) // ParsePorts has made it.
		if host != local || !errors.Is(err, syscall.ECONNREFUSED) {
			return conn, err
		}
		if conn, again := d.DialContext(ctx, "tcp", net.JoinHostPort(local6, port)); again == nil {
			return conn, nil
		}
		return nil, err // Report the address that the user has named.
	}
}

// openAll opens all ports or, after an error, none.
func openAll(ports []Port) (all []*Entrance, err error) {
	for _, p := range ports {
		e, err := p.Open(context.Background())
		if err != nil {
			return nil, errors.Join(err, closeAll(all))
		}
		all = append(all, e)
	}
	return all, nil
}

const (
	// forwards bounds the connections of one port. The agent has 1,024 sessions
	// for all of its clients.
	forwards = 256
	// dialWait bounds the connect inside the guest; the agent itself gives up after 30
	// s.
	dialWait = 35 * time.Second
	// acceptPause is the pause before the next accept when this process or the host is
	// out of descriptors. The port stays open as long as the machine runs.
	acceptPause = 100 * time.Millisecond
)

// A Forwarder forwards connections until it is closed.
type Forwarder struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	log      func(string)
	failures tally // Of connections.
	room     chan struct{}

	ctx    context.Context //nolint:containedctx // Close cancels it for all connections.
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// Forward accepts connections and joins each to one that dial makes. It owns the
// listener. It calls log when a connection fails for a new reason, and at the 10th,
// 100th and so on failure for the same reason.
func Forward(l net.Listener, dial func(context.Context) (net.Conn, error), log func(line string)) *Forwarder {
	f := &Forwarder{listener: l, dial: dial, log: log, room: make(chan struct{}, forwards)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.all.Go(f.accept)
	return f
}

// Close ends the listener and every connection.
func (f *Forwarder) Close() error {
	f.cancel()
	err := f.listener.Close()
	f.all.Wait()
	return err
}

func (f *Forwarder) accept() {
	for told := false; ; {
		conn, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !told {
				f.log("forward " + f.listener.Addr().String() + ": " + err.Error())
			}
			told = true
			f.pause()
			continue
		}
		told = false
		select {
		case f.room <- struct{}{}:
			f.all.Go(func() {
				defer func() { <-f.room }()
				f.serve(conn)
			})
		case <-f.ctx.Done():
			_ = conn.Close() // Nothing was sent.
		}
	}
}

// pause waits before the next accept after a failed one.
func (f *Forwarder) pause() {
	select {
	case <-time.After(acceptPause):
	case <-f.ctx.Done():
	}
}

func (f *Forwarder) serve(near net.Conn) {
	defer func() { _ = near.Close() }() // Both directions have ended by then.
	ctx, cancel := context.WithTimeout(f.ctx, dialWait)
	far, err := f.dial(ctx)
	cancel()
	if err != nil {
		if line := f.failures.again(err.Error()); line != "" && f.ctx.Err() == nil {
			f.log("forward " + f.listener.Addr().String() + ": " + line)
		}
		return
	}
	defer func() { _ = far.Close() }()
	stop := context.AfterFunc(f.ctx, func() { cut(near, far) })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { pass(near, far) })
	pass(far, near)
	back.Wait()
}

// pass copies one direction and then closes it. If the reader is gone, pass closes both
// ways, so that the writer sees it. If the writer is gone, pass resets the connection:
// its reader would take a plain end for the end of the data.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	switch {
	case err != nil:
		cut(to, from)
	case !ok || half.CloseWrite() != nil:
		_, _ = to.Close(), from.Close()
	}
}

// cut closes connections whose data is incomplete, by a reset if they support it.
func cut(conns ...net.Conn) {
	for _, c := range conns {
		if reset, ok := c.(interface{ SetLinger(seconds int) error }); ok {
			_ = reset.SetLinger(0) // Fails only if the connection has ended.
		}
		_ = c.Close()
	}
}
