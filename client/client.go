package client

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// own is the generation in every message that the client sends, whatever the
	// agent's is (protocol section 6).
	own = wire.Newest

	// closeWait is how long Close lets queued frames leave. They are a few
	// signals; a link that does not take them in a second is stalled.
	closeWait = time.Second
)

// A Client is one link to an agent. Its methods may be called from several
// goroutines.
type Client struct {
	link   io.ReadWriteCloser
	frames *frame.Reader
	writer *mux.Writer
	ctl    *mux.Outbox // Messages that belong to no command.

	ready      wire.Ready
	generation wire.Generation // The lower of the agent's and ours.

	credit    *mux.Credit // What an agent takes from us; nil has no limit.
	freezer   freezer
	bulk      atomic.Pointer[Bulk] // nil is the usual one.
	calls     table
	postponed map[uint32]postponed // The reading goroutine's.
	done      chan struct{}
	loops     sync.WaitGroup
	closeLink func() error
	relayed   bool // There is a relay between us and the agent.
}

// IDs is the range of correlation ids that a client may use: Start and up, below
// End. The zero value stands for the range of a relay's first client, for a link
// without a relay.
type IDs struct {
	Start, End uint32
}

// New returns a client on the link of a greeting; it uses Link, Ready and Generation. It is
// for programs that do the handshake themselves, by [Handshake.Run] or otherwise, and for
// those that carry the link through a relay. The client owns the link. Close of the link
// must end a Read and a Write that are under way.
func New(g *Greeting, ids IDs) *Client {
	h := hello{ids: ids, relayed: ids != IDs{}, generation: g.Generation, ready: g.Ready}
	if !h.relayed {
		h.ids.Start, h.ids.End = frame.SlotRange(0)
	}
	return start(g.Link, frame.NewReader(g.Link), h)
}

func start(link io.ReadWriteCloser, frames *frame.Reader, h hello) *Client {
	c := &Client{
		link:       link,
		frames:     frames,
		writer:     mux.NewWriter(link, 0),
		ready:      h.ready,
		generation: min(own, h.generation),
		calls:      newTable(h.ids),
		freezer:    newFreezer(),
		done:       make(chan struct{}),
		relayed:    h.relayed,
		closeLink:  sync.OnceValue(link.Close),
	}
	if v := c.ready.WorkloadTransportBarrierVersion; v != nil && !c.relayed { // A relay counts for its clients.
		c.credit = newCredit(c.writer)
	}
	c.ctl = c.writer.Outbox(0)
	c.loops.Go(c.read)
	c.loops.Go(c.write)
	return c
}

// Agent returns the facts that the agent reported when it became ready.
func (c *Client) Agent() AgentInfo { return agentInfo(c.ready) }

// Generation returns the generation of the protocol that is in force: the lower of the
// agent's and the client's. A call for which the agent is too old is a [*GenerationError].
func (c *Client) Generation() int { return int(c.generation) }

// Done is closed when the link has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns nil while the link is up, then why it ended: a [*LinkError], or
// [ErrClosed] after Close.
func (c *Client) Err() error { return c.calls.ended() }

// Close ends the link. Commands that still run and are not kept are killed, if the guest
// can still be told, and their Waits return [ErrClosed]. Close returns after both
// goroutines of the client have ended.
func (c *Client) Close() error {
	c.end(ErrClosed)
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_ = c.writer.Drain(ctx) // Frames that have not left by then are dropped.
	c.writer.Close()
	err := c.closeLink()
	c.loops.Wait()
	return err
}

// read routes frames until the link ends.
func (c *Client) read() {
	for {
		f, err := c.frames.Next()
		if err != nil {
			c.end(&LinkError{Err: err})
			c.writer.Close()
			_ = c.closeLink()
			return
		}
		c.route(f)
	}
}

func (c *Client) write() {
	if err := c.writer.Run(); err != nil {
		c.end(&LinkError{Err: err})
		_ = c.closeLink() // Ends the Read too.
	}
}

// end fails everything that is pending and refuses what is new.
func (c *Client) end(err error) {
	pending, first := c.calls.close(err)
	if !first {
		return
	}
	for _, r := range pending {
		r.fail(err)
	}
	close(c.done)
}

// encode makes a frame with our own generation, if the agent's has the message.
func (c *Client) encode(id uint32, m wire.Message) ([]byte, error) {
	if info, _ := wire.Lookup(m.Type()); info.Since > c.generation {
		return nil, c.tooOld(m)
	}
	return wire.AppendFrame(nil, own, id, m)
}

// tooOld says that the agent does not know a message.
func (c *Client) tooOld(m wire.Message) error {
	info, _ := wire.Lookup(m.Type())
	return &GenerationError{Feature: feature(m.Type()), Message: string(m.Type()), Needs: int(info.Since), Have: int(c.generation)}
}
