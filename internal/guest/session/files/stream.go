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

// A Read sends a file to the host.
type Read struct{ *session.Stream }

func startRead(base *session.Base, c *client, op *wire.OpRead, offer *wire.BulkOffer) *Read {
	r := &Read{}
	h, err := c.acquireStream(op.Handle, func(a sys.Access) bool { return a.Read }, "reading")
	moves := session.Moves{
		Flows: wire.FlowGuestToHost, Name: "filesystem read",
		Stray: fmt.Sprintf("unknown filesystem write session: %d", base.ID),
		Stop:  func(err error) { r.To.Fail(err) }, // Only a stream of records stops: messages have no way to end a read.
	}
	r.Stream, err = newStream(base, moves, h, err, offer)
	r.Work(func() { r.run(h, op, err) }, func(why string) { r.finish(fileFailed(why)) })
	return r
}

// newStream makes the stream for a handle; err says why the handle was not acquired. It
// returns err, or else the error of the offer.
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

// acquireStream finds the handle of a file and checks that it was opened for the use.
func (c *client) acquireStream(id uint64, may func(sys.Access) bool, use string) (*handle, error) {
	h, err := c.acquireFile(id)
	if err == nil && !may(h.access) {
		h.release()
		return nil, fmt.Errorf("handle %d is not open for %s", id, use)
	}
	return h, err
}

// Detach ends the sending. A read that waits in the kernel ends with the handle.
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

// pass sends the part of the file that the request asks for.
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

// reader returns a function that reads from an offset on. A file without positions, such
// as a device, is read by one stream at a time, until done.
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

// A Write receives a file from the host.
type Write struct {
	*session.Stream

	mu     sync.Mutex
	failed error // The first error; set when no more bytes are taken.
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

// Data takes a piece of the file; an empty piece is the end.
func (w *Write) Data(t wire.Type, p []byte, c session.Charge) {
	if t == wire.TypeFSData && len(p) == 0 && w.Messages("data") {
		c.Refund()
		w.In.End()
		return
	}
	w.Stream.Data(t, p, c)
}

// fail stops the taking of bytes. Only the first error is kept.
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

func (w *Write) finish(last wire.Message) { w.end(w, last) }

// end ends the session self, of which w is the stream.
func (w *Write) end(self session.Session, last wire.Message) {
	w.In.Drop()
	w.ReturnWindow()
	w.End(self, last)
}

// pass writes the bytes that come until their end. Bytes written before a failure stay.
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

// why returns the reason why the inbox gives no more bytes.
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

// writer returns a function that writes from an offset on, or appends. Pieces of several
// streams on one handle may mix, as the protocol says.
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
