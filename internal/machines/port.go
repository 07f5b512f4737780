package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Port is one of the host's that leads into the guest.
type Port struct {
	Host  string `json:"host"`  // ADDRESS:PORT to listen at; port 0 is any that is free.
	Guest string `json:"guest"` // ADDRESS:PORT to connect to there.
}

// String says it as ParsePorts takes it.
func (p Port) String() string { return p.Host + " -> " + p.Guest }

// A Dialer connects to something in a guest, as net.Dialer does on a host.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// local6 is the guest's own address where a server has chosen it alone, as those do
// that listen on "localhost" and take the first that the name has.
const local6 = "::1"

// Dial connects to the port's guest side, for [Forward].
func (p Port) Dial(d Dialer) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", p.Guest)
		host, port, _ := net.SplitHostPort(p.Guest) // Made by ParsePorts.
		if host != local || !errors.Is(err, syscall.ECONNREFUSED) {
			return conn, err
		}
		if conn, again := d.DialContext(ctx, "tcp", net.JoinHostPort(local6, port)); again == nil {
			return conn, nil
		}
		return nil, err // Of the address that the user knows.
	}
}

// listen opens all ports or none.
func listen(ports []Port) (all []net.Listener, err error) {
	for _, p := range ports {
		var config net.ListenConfig
		l, err := config.Listen(context.Background(), "tcp", p.Host)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("port %s: %w", p, err), closeAll(all))
		}
		all = append(all, l)
	}
	return all, nil
}

const (
	// forwards bounds the connections of one port. The agent has 1,024 sessions
	// for all of its clients.
	forwards = 256
	// dialWait is for a connection inside the guest; the agent itself gives up
	// after 30 s.
	dialWait = 35 * time.Second
	// acceptPause is before another attempt where this process, or the host, is out of
	// descriptors: the port is there for as long as its machine.
	acceptPause = 100 * time.Millisecond
)

// A Forwarder passes connections on until it is closed.
type Forwarder struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	log      func(string)
	failures tally // Of connections.
	room     chan struct{}

	ctx    context.Context //nolint:containedctx // Close ends what all connections do.
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// Forward accepts connections and joins each with one that dial makes. It owns
// the listener. Log is given a line for each reason that a connection fails for,
// and for its 10th, 100th and so on of one reason.
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
			_ = conn.Close() // Nothing was said.
		}
	}
}

// pause leaves an accept alone that has failed.
func (f *Forwarder) pause() {
	select {
	case <-time.After(acceptPause):
	case <-f.ctx.Done():
	}
}

func (f *Forwarder) serve(near net.Conn) {
	defer func() { _ = near.Close() }() // Each side has heard its end by then.
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

// pass copies one direction and passes its end on. A reader that is gone is told
// to the writer by closing both ways, and a writer that is gone by a reset: its reader
// would take the end of a link for the end of what it was sent.
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

// cut closes connections whose data is not whole, with a reset where they know one.
func cut(conns ...net.Conn) {
	for _, c := range conns {
		if reset, ok := c.(interface{ SetLinger(seconds int) error }); ok {
			_ = reset.SetLinger(0) // It has ended already if that fails.
		}
		_ = c.Close()
	}
}
