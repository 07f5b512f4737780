package life

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
)

// A connections is the handshake of the server, which counts the connections of its
// callers. The library ends a connection whose one call is under way as if it were
// idle, so a server that is shut down at once cuts off the answer to the call that asked for it.
type connections struct {
	approve ttrpc.UnixCredentialsFunc

	mu    sync.Mutex
	open  int
	empty chan struct{} // Closed while open is 0.
}

func newConnections() *connections {
	c := &connections{approve: ttrpc.UnixSocketRequireSameUser(), empty: make(chan struct{})}
	close(c.empty)
	return c
}

// Handshake implements [ttrpc.Handshaker].
func (c *connections) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	approved, credentials, err := c.approve.Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == 0 {
		c.empty = make(chan struct{})
	}
	c.open++
	return &counted{Conn: approved, of: c}, credentials, nil
}

// wait waits until the callers have closed their connections, which they do after the
// last answer, or for the given time.
func (c *connections) wait(limit time.Duration) {
	c.mu.Lock()
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
	case <-time.After(limit):
	}
}

type counted struct {
	net.Conn

	of   *connections
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(c.of.leave)
	return c.Conn.Close()
}

func (c *connections) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open--; c.open == 0 {
		close(c.empty)
	}
}
