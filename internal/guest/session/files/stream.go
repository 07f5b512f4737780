package files

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"syscall"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// A Read is the sending of a file.
type Read struct{ *session.Stream }

func startRead(base *session.Base, c *client, op *wire.OpRead, offer *wire.BulkOffer) *Read {
	r := &Read{}
	h, err := c.acquireStream(op.Handle, func(a sys.Access) bool { return a.Read }, "reading")
	moves := session.Moves{
		Flows: wire.FlowGuestToHost, Name: "filesystem read",
		Stray: fmt.Sprintf("unknown filesystem write session: %d", base.ID),
		Stop:  func(err error) { r.To.Fail(err) }, // One without records goes on: its host has no word that ends it.
	}
	r.Stream, err = newStream(base, moves, h, err, offer)
	r.Work(func() { r.run(h, op, err) }, func(why string) { r.finish(fileFailed(why)) })
	return r
}

// newStream makes the stream of a handle that was acquired, or was not for err. It
// returns the first of that and of what is wrong with the offer.
func newStream(base *session.Base, moves session.Moves, h *handle, err error, offer *wire.BulkOffer) (*session.Stream, error) {
	moves.Kind, moves.Data, moves.Count = wire.BulkFS, wire.TypeFSData, &base.Host.Activity.Files
	moves.Record, moves.Offer = flow.MaxRecord, moves.Name
	if err != nil {
		offer = nil
	}
	s, refused := session.NewStream(base, moves, offer)
	if refused != nil {
		h.release()
		return s, refused
	}
	return s, err
}

// acquireStream finds the handle of a file that was opened for a use.
func (c *client) acquireStream(id uint64, may func(sys.Access) bool, use string) (*handle, error) {
	h, err := c.acquireFile(id)
	if err == nil && !may(h.access) {
		h.release()
		return nil, fmt.Errorf("handle %d is not open for %s", id, use)
	}
	return h, err
}

// Detach ends the sending; what waits in the kernel ends with the handle.
func (r *Read) Detach() {
	r.Base.Detach()
	r.To.Fail(session.ErrDetached)
}

func (r *Read) run(h *handle, op *wire.OpRead, err error) {
	if err == nil {
		err = r.pass(h, op)
	} else {
		err = session.Failure("read: ", err)
	}
	r.Farewell(err)
	r.finish(fileResponse("", nil, err))
}

func (r *Read) finish(last wire.Message) {
	r.End(r, last)
}

// pass sends what the request asks for.
func (r *Read) pass(h *handle, op *wire.OpRead) error {
	defer h.release()
	read, done, err := h.reader(op.Offset)
	if err != nil {
		return session.Failure("seek: ", err)
	}
	defer done()
	left := uint64(math.MaxUint64)
	if op.Len != nil {
		left = *op.Len
	}
	from := session.Stored(func(b []byte) (int, error) {
		if r.Detached() {
			return 0, session.ErrDetached
		}
		if left == 0 {
			return 0, io.EOF
		}
		b = b[:min(uint64(len(b)), left)]
		n, err := h.io(func() (int, error) { return read(b) })
		left -= uint64(n)
		return n, err
	})
	r.Begin()
	err = r.Pump(from).Run()
	if errors.Is(err, io.EOF) {
		if last := r.To.End(); last != nil {
			r.Send(last)
		}
		return nil
	}
	return session.Failure("read: ", err)
}

// reader reads from an offset on. What has no positions of its own, a device, is
// read by one stream at a time, until done.
func (h *handle) reader(offset uint64) (read func([]byte) (int, error), done func(), err error) {
	if offset > math.MaxInt64 {
		return nil, nil, syscall.EINVAL
	}
	at := int64(offset)
	if h.plain {
		return func(b []byte) (int, error) {
			n, err := h.file.ReadAt(b, at)
			at += int64(n)
			return n, err
		}, func() {}, nil
	}
	h.pos.Lock()
	if _, err := h.file.Seek(at, io.SeekStart); err != nil {
		h.pos.Unlock()
		return nil, nil, err
	}
	return h.file.Read, h.pos.Unlock, nil
}

// A Write is the receiving of a file.
type Write struct {
	*session.Stream

	mu     sync.Mutex
	failed error // Why nothing more is taken.
}

func startWrite(base *session.Base, c *client, op *wire.OpWrite, offer *wire.BulkOffer) *Write {
	w := &Write{}
	h, err := c.acquireStream(op.Handle, func(a sys.Access) bool { return a.Write || a.Append }, "writing")
	moves := session.Moves{
		Flows: wire.FlowHostToGuest, Name: "filesystem write", Want: math.MaxUint64,
		Stray: session.NoOffer, Full: syscall.ENOSPC, Stop: w.fail,
	}
	if op.Len != nil {
		moves.Want = *op.Len
	}
	w.Stream, err = newStream(base, moves, h, err, offer)
	w.Work(func() { w.run(h, op, err) }, func(why string) { w.finish(fileFailed(why)) })
	return w
}

// Detach ends the receiving.
func (w *Write) Detach() {
	w.Base.Detach()
	w.In.Drop()
}

// Data takes a piece of the file; no bytes at all are its end.
func (w *Write) Data(t wire.Type, p []byte, c session.Charge) {
	if t == wire.TypeFSData && len(p) == 0 && w.Messages("data") {
		c.Refund()
		w.In.End()
		return
	}
	w.Stream.Data(t, p, c)
}

// fail takes nothing more, for the first reason.
func (w *Write) fail(err error) {
	w.mu.Lock()
	if w.failed == nil {
		w.failed = err
	}
	w.mu.Unlock()
	w.In.Drop()
}

func (w *Write) run(h *handle, op *wire.OpWrite, err error) {
	if err == nil {
		err = w.pass(h, op)
	} else {
		err = session.Failure("write: ", err)
	}
	w.Farewell(err)
	w.finish(fileResponse("", nil, err))
}

func (w *Write) finish(last wire.Message) {
	w.In.Drop()
	w.ReturnWindow()
	w.End(w, last)
}

// pass writes what comes until its end. What was written before a failure stays.
func (w *Write) pass(h *handle, op *wire.OpWrite) error {
	defer h.release()
	write, err := h.writer(op.Offset)
	if err != nil {
		return session.Failure("seek: ", err)
	}
	w.Begin()
	var total uint64
	for {
		p, err := w.In.Next()
		switch {
		case errors.Is(err, io.EOF):
			return lengthError(op.Len, total)
		case err != nil:
			return session.Failure("write: ", w.why(err))
		}
		n, err := h.io(func() (int, error) { return write(p) })
		total += uint64(n)
		w.Consumed(p, n)
		if err != nil {
			return session.Failure("write: ", err)
		}
	}
}

// why is the reason of an inbox that gives nothing more.
func (w *Write) why(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	return err
}

func lengthError(want *uint64, got uint64) error {
	if want == nil || *want == got {
		return nil
	}
	return fmt.Errorf("write length mismatch: expected %d, wrote %d", *want, got)
}

// writer writes from an offset on, or to the end of a file that is appended to.
// Pieces of several streams of one handle may mix, as the protocol says.
func (h *handle) writer(offset uint64) (func([]byte) (int, error), error) {
	if h.access.Append {
		return h.file.Write, nil
	}
	if offset > math.MaxInt64 {
		return nil, syscall.EINVAL
	}
	at := int64(offset)
	if h.plain {
		return func(p []byte) (int, error) {
			n, err := h.file.WriteAt(p, at)
			at += int64(n)
			return n, err
		}, nil
	}
	if _, err := h.file.Seek(at, io.SeekStart); err != nil {
		return nil, err
	}
	return func(p []byte) (int, error) {
		h.pos.Lock()
		defer h.pos.Unlock()
		if _, err := h.file.Seek(at, io.SeekStart); err != nil {
			return 0, err
		}
		n, err := h.file.Write(p)
		at += int64(n)
		return n, err
	}, nil
}
