package client

import (
	"io"

	"github.com/agentd-go/agentd/wire"
)

// ReadHello is readHello, with what the frame reader and r have left.
func ReadHello(r io.Reader) (ids IDs, gen wire.Generation, rest []byte, err error) {
	h, frames, err := readHello(r)
	if err != nil {
		return IDs{}, 0, nil, err
	}
	unread, err := io.ReadAll(r)
	return h.ids, h.generation, append(frames.Buffered(), unread...), err
}

// Ended begins a piece of a file to write and one to read, as calls do whose context
// has ended after they looked at it.
func (f *File) Ended(cause error) {
	f.cancel(cause)
	if p, err := f.begin(0, f.c.offer(0)); err == nil {
		_ = p.result()
	}
	if w, err := f.open(0, bulkPiece); err == nil {
		_ = w.Close()
	}
}

// Early begins to connect on an id that the agent has already said to have failed.
func (c *Client) Early() error {
	n := newConn(c, "tcp", new(wire.TCPConnect))
	n.finish(errUnexpected)
	return n.request(&wire.TCPConnect{Host: "x", Port: 1})
}

// Needs is what a call does first that needs an extension.
func (c *Client) Needs(extension, feature string) error { return c.needs(extension, feature) }
