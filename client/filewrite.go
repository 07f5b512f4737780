package client

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

const (
	// fileChunk is how much of a file goes into one frame. Nothing can pass a
	// frame that has begun to leave, and every frame is at least one operation of
	// the guest's file system: four writes to the port, a millisecond or so.
	fileChunk = 4*mux.Quantum - wire.DataHead

	// fileQueue holds two frames, one to fill while the other is written.
	fileQueue = 8 * mux.Quantum

	// writePiece is how much is written before an answer is asked for, 1 MiB, and twice
	// that how much may be without one. There is no other credit: an agent holds
	// what it cannot write yet in memory (ours 4 MiB for each stream) and then on
	// its disk, and refuses what is too much.
	writePiece = 8 * fileChunk
)

// An upload is a piece of a file on its way to the guest.
type upload struct {
	flows
	out  *mux.Outbox
	sent int64
	most int64 // How much it takes.
	stop func() bool

	done chan struct{}

	mu    sync.Mutex
	over  bool
	err   error
	reply wire.FSResult // Set before done is closed.
}

func (p *upload) receive(e wire.Envelope) error {
	if isFlow(e.Type) {
		return p.receiveFlow(e)
	}
	result, refused, err := answered(e)
	if err == nil {
		p.stop()
		p.mu.Lock()
		p.reply = result
		p.mu.Unlock()
		p.settle(refused)
	}
	return err
}

func (p *upload) fail(err error) {
	p.stop()
	p.settle(err)
	if m := p.to.Cancel(); m != nil {
		p.c.farewell(p.id, m) // The agent would wait for the rest.
	}
}

// settle ends the upload; nil means that the piece has arrived. Only the first call has an
// effect, and returns true.
func (p *upload) settle(err error) bool {
	p.mu.Lock()
	again := p.over
	if !again {
		p.over, p.err = true, err
	}
	p.mu.Unlock()
	if again {
		return false
	}
	p.to.Fail(errOver) // Ends a sender's wait for credit.
	p.out.Discard()
	close(p.done)
	return true
}

func (p *upload) result() error {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// abandon gives an upload up, and ends the guest's side too.
func (p *upload) abandon(err error) {
	if !p.settle(err) {
		return
	}
	m := p.to.Cancel()
	if m == nil {
		m = p.to.End()
	}
	p.c.farewell(p.id, m)
}

// writing is the uploads that have no answer yet: the last may be open.
type writing struct {
	open   *upload
	closed []*upload
	long   bool // Enough is written that raw records pay off.

	inOrder bool // One upload at a time: the file's length is what has arrived.
}

// flush waits for all answers, and returns the first error.
func (w *writing) flush() error {
	err := w.seal()
	for _, p := range w.closed {
		err = firstOf(err, p.result())
	}
	w.closed = nil
	return err
}

// seal ends the open upload.
func (w *writing) seal() error {
	p := w.open
	if p == nil {
		return nil
	}
	w.open = nil
	w.closed = append(w.closed, p)
	b, err := p.c.encode(p.id, p.to.End())
	if err != nil {
		return err
	}
	_ = p.out.Send(b) // If it fails, the result says why.
	return nil
}

// upload returns the one to write to at the file's position.
func (f *File) upload() (*upload, error) {
	w := &f.out
	if w.open != nil && w.open.sent < w.open.most {
		return w.open, nil
	}
	w.long = w.long || w.open != nil
	if err := w.seal(); err != nil {
		return nil, err
	}
	allowed := 1
	if f.append || w.inOrder {
		allowed = 0 // Two concurrent appends would interleave.
	}
	for len(w.closed) > allowed {
		err := w.closed[0].result()
		w.closed = w.closed[1:]
		if err != nil {
			return nil, err
		}
	}
	var offer *wire.BulkOffer
	if w.long {
		offer = f.c.offer(0)
	}
	p, err := f.begin(f.pos, offer)
	w.open = p
	return p, err
}

// begin asks the guest to take bytes from an offset on.
func (f *File) begin(offset int64, offer *wire.BulkOffer) (*upload, error) {
	return f.c.upload(f.ctx, &wire.FSRequest{Op: &wire.OpWrite{Handle: f.handle, Offset: uint64(offset)}, Bulk: offer})
}

// upload sends a request that takes bytes, and waits until they may be sent.
func (c *Client) upload(ctx context.Context, req *wire.FSRequest) (*upload, error) {
	p := &upload{out: c.writer.Outbox(fileQueue), most: writePiece, done: make(chan struct{})}
	if req.Bulk != nil {
		p.most = bulkPiece
	}
	p.init(c, wire.BulkFS, wire.FlowHostToGuest, req.Bulk, wire.TypeFSData, &wire.FSData{})
	stop, asked := givenUp(ctx, p.abandon)
	p.stop = stop
	err := p.ask(req)
	asked()
	if err != nil {
		return nil, err
	}
	if p.to.AwaitOpen() != nil {
		return nil, firstOf(p.result(), errUnexpected)
	}
	return p, nil
}

// ask sends the request. The upload is over if that fails.
func (p *upload) ask(req *wire.FSRequest) error {
	err := p.c.calls.add(func(id uint32) receiver {
		p.id = id
		return p
	})
	if err == nil {
		var b []byte
		if b, err = p.c.encode(p.id, req); err == nil && p.out.Send(b) != nil {
			err = firstOf(p.result(), errUnexpected) // The link's end, or an answer that came first.
		}
	}
	if err != nil {
		p.stop()
		p.settle(err)
		p.c.calls.remove(p.id, p)
	}
	return err
}

// send sends the n bytes after the head's room of buf, and moves the file's position. The
// link owns buf from then on.
func (f *File) send(buf []byte, n int) error {
	p, err := f.upload()
	if err != nil {
		return err
	}
	for data := buf[wire.DataHead : wire.DataHead+n]; len(data) > 0; {
		n, err := p.piece(p.out, buf, data, nil)
		if err != nil {
			f.out.open = nil
			return firstOf(p.result(), errUnexpected) // The agent has ended the session too early.
		}
		if data = data[n:]; n > 0 {
			buf = nil
		}
		p.sent += int64(n)
		f.pos += int64(n)
	}
	return nil
}

// Write writes at the file's position, or at the end of a file opened to append.
func (f *File) Write(b []byte) (int, error) {
	n, err := f.write(b)
	return n, pathError("write", f.name, err)
}

func (f *File) write(b []byte) (n int, err error) {
	unlock, err := f.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	f.in.drop()
	f.out.long = f.out.long || len(b) >= bulkFrom
	chunk := f.chunk()
	for n < len(b) {
		piece := b[n:min(n+chunk, len(b))]
		buf := make([]byte, wire.DataHead+len(piece))
		copy(buf[wire.DataHead:], piece)
		if err := f.send(buf, len(piece)); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// chunk is how much goes into one frame.
func (f *File) chunk() int {
	if f.out.long {
		if o := f.c.offer(0); o != nil {
			return max(fileChunk, int(o.MaxRecordPayload))
		}
	}
	return fileChunk
}

// WriteString is Write for a string.
func (f *File) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

// ReadFrom writes the bytes of r, and waits until they have arrived.
func (f *File) ReadFrom(r io.Reader) (total int64, err error) {
	var spare []byte
	for {
		buf := spare
		if spare = nil; buf == nil {
			buf = make([]byte, wire.DataHead+fileChunk)
		}
		n, failed := r.Read(buf[wire.DataHead:])
		if n < fileChunk/2 {
			buf, spare = bytes.Clone(buf[:wire.DataHead+n]), buf // A frame keeps its memory until it has left.
		}
		if err := f.put(buf, n); err != nil {
			return total, pathError("write", f.name, err)
		}
		total += int64(n)
		if failed != nil {
			return total, firstOf(pathError("write", f.name, f.settle()), noEOF(failed))
		}
	}
}

// put locks the file and calls send.
func (f *File) put(buf []byte, n int) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f.in.drop()
	if n == 0 {
		return nil
	}
	return f.send(buf, n)
}

// WriteAt writes at an offset, whatever the position, and waits until the bytes have
// arrived. A file opened to append refuses it.
func (f *File) WriteAt(b []byte, offset int64) (int, error) {
	n, err := f.writeAt(b, offset)
	return n, pathError("write", f.name, err)
}

func (f *File) writeAt(b []byte, offset int64) (int, error) {
	if offset < 0 || f.append {
		return 0, einval
	}
	unlock, err := f.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	f.in.drop()
	if err := f.out.flush(); err != nil {
		return 0, err
	}
	at := &File{c: f.c, ctx: f.ctx, name: f.name, handle: f.handle, pos: offset}
	n, err := at.write(b)
	if err == nil {
		err = at.out.flush()
	}
	return n, err
}

// WriteFile writes a file: a new one, with perm before the guest's umask, or one
// that is truncated first.
func (c *Client) WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	f, err := c.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return firstOf(err, f.Close())
}
