package files

import (
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/watch"
	"github.com/agentd-go/agentd/wire"
)

// A watching makes the events of a directory. It counts as a handle of its client.
type watching struct {
	*watch.Watcher
	client *client
	path   string
}

func startWatch(base *session.Base, c *client, op *wire.OpWatch, offer *wire.BulkOffer) *Outflow {
	w := &watching{client: c, path: op.Path}
	err := c.reserve()
	if err == nil {
		w.Watcher, err = watch.New(watch.Options{Recursive: op.Recursive, Exclude: op.Exclude})
		if err != nil {
			c.unreserve()
		}
	}
	return startOutflow(base, c, "watch", op.Path, offer, w, err)
}

func (w *watching) open() error                { return w.Begin(w.path) }
func (w *watching) read(b []byte) (int, error) { return w.Take(b) }
func (w *watching) wait() error                { return w.Wait() }
func (*watching) result() wire.FSResult        { return nil }

func (w *watching) stop() {
	if w.Watcher != nil {
		w.Close()
	}
}

func (w *watching) close() {
	if w.Watcher != nil {
		w.Release()
		w.client.unreserve()
	}
}
