package session

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"syscall"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/wire"
)

// A Read is the sending of a file.
type Read struct{ *stream }

func startRead(l *base, c *client, op *wire.OpRead, offer *wire.BulkOffer) *Read {
	r := &Read{&stream{
		base: l, kind: wire.BulkFS, flows: wire.FlowGuestToHost, data: wire.TypeFSData, count: &l.host.Activity.files,
		name: "filesystem read", stray: fmt.Sprintf("unknown filesystem write session: %d", l.id),
	}}
	r.stop = func(err error) { r.to.Fail(err) } // One without records goes on: its host has no word that ends it.
	h, err := c.acquireFile(op.Handle)
	if err == nil && !h.access.Read {
		h.release()
		err = fmt.Errorf("handle %d is not open for reading", op.Handle)
	}
	if err != nil {
		offer = nil
	}
	if refused := r.open(r.name, offer, flow.MaxRecord, nil); refused != nil {
		h.release()
		err = refused
	}
	r.work(func() { r.run(h, op, err) }, func(why string) { r.finish(fileFailed(why)) })
	return r
}

// Detach ends the sending; what waits in the kernel ends with the handle.
func (r *Read) Detach() {
	r.detach()
	r.to.Fail(errDetached)
}

func (r *Read) run(h *handle, op *wire.OpRead, err error) {
	if err == nil {
		err = r.pass(h, op)
	} else {
		err = failure("read: ", err)
	}
	r.farewell(err)
	r.finish(fileResponse("", nil, err))
}

func (r *Read) finish(last wire.Message) {
	r.end(r, last)
}

// pass sends what the request asks for.
func (r *Read) pass(h *handle, op *wire.OpRead) error {
	defer h.release()
	read, done, err := h.reader(op.Offset)
	if err != nil {
		return failure("seek: ", err)
	}
	defer done()
	left := uint64(math.MaxUint64)
	if op.Len != nil {
		left = *op.Len
	}
	from := stored(func(b []byte) (int, error) {
		if r.detached.Load() {
			return 0, errDetached
		}
		if left == 0 {
			return 0, io.EOF
		}
		b = b[:min(uint64(len(b)), left)]
		n, err := h.io(func() (int, error) { return read(b) })
		left -= uint64(n)
		return n, err
	})
	r.begin()
	err = r.pump(from).run()
	if errors.Is(err, io.EOF) {
		if last := r.to.End(); last != nil {
			r.send(last)
		}
		return nil
	}
	return failure("read: ", err)
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
	*stream

	mu     sync.Mutex
	failed error // Why nothing more is taken.
}

func startWrite(l *base, c *client, op *wire.OpWrite, offer *wire.BulkOffer) *Write {
	w := &Write{stream: &stream{
		base: l, kind: wire.BulkFS, flows: wire.FlowHostToGuest, data: wire.TypeFSData, count: &l.host.Activity.files,
		name: "filesystem write", stray: noOffer, want: math.MaxUint64, full: syscall.ENOSPC, // What waits on disk has a bound.
	}}
	w.stop = w.fail
	if op.Len != nil {
		w.want = *op.Len
	}
	h, err := c.acquireFile(op.Handle)
	if err == nil && !h.access.Write && !h.access.Append {
		h.release()
		err = fmt.Errorf("handle %d is not open for writing", op.Handle)
	}
	if err != nil {
		offer = nil
	}
	if refused := w.open(w.name, offer, flow.MaxRecord, nil); refused != nil {
		h.release()
		err = refused
	}
	w.work(func() { w.run(h, op, err) }, func(why string) { w.finish(fileFailed(why)) })
	return w
}

// Detach ends the receiving.
func (w *Write) Detach() {
	w.detach()
	w.in.Drop()
}

// Data takes a piece of the file; no bytes at all are its end.
func (w *Write) Data(p []byte) {
	if len(p) == 0 && w.message("data") {
		w.in.End()
		return
	}
	w.stream.Data(p)
}

// fail takes nothing more, for the first reason.
func (w *Write) fail(err error) {
	w.mu.Lock()
	if w.failed == nil {
		w.failed = err
	}
	w.mu.Unlock()
	w.in.Drop()
}

func (w *Write) run(h *handle, op *wire.OpWrite, err error) {
	if err == nil {
		err = w.pass(h, op)
	} else {
		err = failure("write: ", err)
	}
	w.farewell(err)
	w.finish(fileResponse("", nil, err))
}

func (w *Write) finish(last wire.Message) {
	w.in.Drop()
	w.close()
	w.end(w, last)
}

// pass writes what comes until its end. What was written before a failure stays.
func (w *Write) pass(h *handle, op *wire.OpWrite) error {
	defer h.release()
	write, err := h.writer(op.Offset)
	if err != nil {
		return failure("seek: ", err)
	}
	w.begin()
	var total uint64
	for {
		p, err := w.in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return lengthError(op.Len, total)
		case err != nil:
			return failure("write: ", w.why(err))
		}
		n, err := h.io(func() (int, error) { return write(p) })
		total += uint64(n)
		w.count.Add(uint64(n))
		if err != nil {
			return failure("write: ", err)
		}
		w.consumed(p, n)
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
