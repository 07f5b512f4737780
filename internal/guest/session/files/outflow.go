package files

import (
	"errors"
	"io"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/wire"
)

// An Outflow sends what the agent makes of a directory: an archive, or events. One type for
// both, because each type of session costs the agent's binary some 10 KiB.
type Outflow struct {
	*session.Stream
	client *client
	from   maker
	prefix string // Precedes the text of an error.
}

// A maker makes the bytes of an Outflow. All but wait and stop is called in a place among the
// calls.
type maker interface {
	open() error
	read(b []byte) (int, error) // 0 without an error: none are there yet.
	wait() error                // Until some may be there.
	stop()                      // Ends a wait, of another goroutine.
	close()                     // At the end, also if it was not opened.
	result() wire.FSResult      // After the end.
}

// startOutflow starts the session; err says why there is nothing to send.
func startOutflow(base *session.Base, c *client, name, path string, offer *wire.BulkOffer, from maker, err error) *Outflow {
	o := &Outflow{client: c, from: from, prefix: name + ": "}
	var refused error
	o.Stream, refused = newArchive(base, session.Moves{
		Flows: wire.FlowGuestToHost, Name: "filesystem " + name, Stray: session.NoOffer, Stop: o.fail,
	}, offer, path)
	if refused != nil {
		err = refused
	}
	o.Work(func() { o.run(err) }, func(why string) { o.End(o, fileFailed(why)) })
	return o
}

// fail ends the sending, and the waiting for bytes.
func (o *Outflow) fail(err error) {
	o.To.Fail(err)
	o.from.stop()
}

// Detach ends the sending.
func (o *Outflow) Detach() {
	o.Base.Detach()
	o.fail(session.ErrDetached)
}

func (o *Outflow) run(err error) {
	var result wire.FSResult
	if err == nil {
		result, err = o.pass()
	}
	o.from.close()
	o.Farewell(err)
	o.End(o, fileResponse(o.prefix, result, err))
}

// pass sends the bytes until their end.
func (o *Outflow) pass() (wire.FSResult, error) {
	var err error
	refused := o.client.call(func() { err = o.from.open() })
	if err = errors.Join(refused, err); err != nil {
		return nil, err
	}
	o.Begin()
	if err = o.Pump(o).Run(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	o.Send(o.To.End())
	return o.from.result(), nil
}

// Read waits for bytes.
func (o *Outflow) Read(b []byte) (int, error) {
	for {
		n, err := o.Try(b)
		if n > 0 || err != nil {
			return n, err
		}
		if err := o.from.wait(); err != nil {
			if _, _, why := o.To.Room(1); why != nil {
				err = why // It was stopped.
			}
			return 0, err
		}
	}
}

// Try makes bytes in a place among the calls.
func (o *Outflow) Try(b []byte) (n int, err error) {
	if o.Detached() {
		return 0, session.ErrDetached
	}
	if refused := o.client.call(func() { n, err = o.from.read(b) }); refused != nil {
		return 0, refused
	}
	return n, err
}
