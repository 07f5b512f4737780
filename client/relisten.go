package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// relistenFor is how long the address of a listener may be in use after the link has
	// ended: a relay closes a client's sessions within 10 seconds, and that takes a moment.
	relistenFor = 15 * time.Second

	relistenPause = 50 * time.Millisecond
)

// Listen is [Client.ListenContext] by a client whose link is up. When the link ends the
// listener listens at the same address by the next one: connections that were open end, and
// Accept goes on. The context is for this call alone.
func (r *Reconnector) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	c, err := r.Client(ctx)
	if err != nil {
		return nil, err
	}
	l, err := c.ListenContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	again := &relistener{r: r, network: network, current: l, addr: l.Addr()}
	again.ctx, again.cancel = context.WithCancel(context.Background())
	return again, nil
}

// A relistener listens by one client after the other.
type relistener struct {
	r       *Reconnector
	network string
	addr    net.Addr

	ctx    context.Context //nolint:containedctx // Close cancels it.
	cancel context.CancelFunc

	mu      sync.Mutex // Held while it listens again.
	current net.Listener
}

func (l *relistener) Addr() net.Addr { return l.addr }

func (l *relistener) Close() error {
	l.cancel()
	return l.now().Close()
}

func (l *relistener) now() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

func (l *relistener) Accept() (net.Conn, error) {
	for {
		from := l.now()
		n, err := from.Accept()
		if !LinkEnded(err) {
			return n, err
		}
		if err := l.again(from); err != nil {
			return nil, &net.OpError{Op: "accept", Net: l.network, Addr: l.addr, Err: err}
		}
	}
}

// again listens by the next client, unless another Accept has done so.
func (l *relistener) again(last net.Listener) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for begun := time.Now(); l.current == last; {
		c, err := l.r.Client(l.ctx)
		var next net.Listener
		if err == nil {
			next, err = c.ListenContext(l.ctx, l.network, l.addr.String())
		}
		switch {
		case err == nil:
			l.current = next
			return nil
		case l.ctx.Err() != nil:
			return net.ErrClosed
		case !LinkEnded(err) && (!errors.Is(err, eaddrinuse) || time.Since(begun) >= relistenFor):
			return err
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(relistenPause):
		}
	}
	return nil
}
