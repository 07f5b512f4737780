package client

import (
	"context"
	"io"
	"math"
	"sync"

	"github.com/agentd-go/agentd/wire"
)

const (
	// firstFetch is what the first Read of a file asks for: most files are
	// smaller. It is what an agent reads at once.
	firstFetch = 64 << 10

	// readFetch is what reading in a row asks for at once, and a second time when
	// it begins with the first: a link of 1 GiB/s with an answer after 2 ms is
	// never idle, and one file has at most 2 MiB here. Generations up to 7 cannot
	// say less once they have asked, so this is also what a reader that stops has
	// to take.
	readFetch = 1 << 20
	fetches   = 2
)

// A fetch is a piece of a file that was asked for and is on its way.
type fetch struct {
	*stream // Bytes that have arrived and were not read; io.EOF follows the piece.

	flows
	want int64
	got  int64 // The reading goroutine's.
	stop func() bool

	result wire.FSResult // Of the answer; guarded by the stream's mu.
}

// receive takes a message; see receiver. Pushing never waits: what comes is what
// was asked for.
func (w *fetch) receive(e wire.Envelope) error {
	switch {
	case isFlow(e.Type):
		return w.receiveFlow(e)
	case e.Type != wire.TypeFSData:
		result, refused, err := w.answered(e)
		if err == nil {
			w.mu.Lock()
			w.result = result
			w.mu.Unlock()
			w.finish(firstOf(refused, io.EOF))
			w.stop()
		}
		return err
	}
	data, err := wire.DataOf(e)
	if err != nil {
		return err
	}
	return w.keep(data)
}

func (w *fetch) record(r wire.Record) error {
	if _, err := w.from.Record(r); err != nil {
		return err
	}
	return w.keep(r.Data)
}

func (w *fetch) keep(data []byte) error {
	if w.got += int64(len(data)); w.got > w.want {
		return errUnexpected
	}
	w.push(data)
	return nil
}

func (w *fetch) fail(err error) {
	w.finish(err)
	w.from.Cancel()
	w.stop()
}

// answered decodes a response: refused is nil or the guest's refusal; err says that the
// message is no response.
func answered(e wire.Envelope) (result wire.FSResult, refused, err error) {
	m, err := wire.Decode(e)
	if err != nil {
		return nil, nil, err
	}
	reply, ok := m.(*wire.FSResponse)
	if !ok {
		return nil, nil, errUnexpected
	}
	return reply.Data, verdict(reply), nil
}

// answered is answered for a read whose data may have come as records: one that is
// said to have gone well has sent all of them.
func (f *flows) answered(e wire.Envelope) (result wire.FSResult, refused, err error) {
	result, refused, err = answered(e)
	if err == nil && refused == nil && !f.from.Whole() {
		return nil, nil, errUnexpected
	}
	f.from.End()
	return result, refused, err
}

// offer returns the offer for reading so many bytes, nil if records do not pay off.
func (f *File) offer(size int64) *wire.BulkOffer {
	if size < bulkFrom {
		return nil
	}
	return f.c.offer(size)
}

// initRead is init for the contents of a file that is read.
func (f *flows) initRead(c *Client, offer *wire.BulkOffer) {
	f.init(c, wire.BulkFS, wire.FlowGuestToHost, offer, wire.TypeFSData, nil)
}

// open asks for a piece of a file.
func (f *File) open(offset, size int64) (*fetch, error) {
	return f.c.fetch(f.reads, f.request(offset, size), size)
}

// request is the request for a piece.
func (f *File) request(offset, size int64) *wire.FSRequest {
	length := uint64(size)
	op := &wire.OpRead{Handle: f.handle, Offset: uint64(offset), Len: &length}
	return &wire.FSRequest{Op: op, Bulk: f.offer(size)}
}

// fetch sends a request whose answer is at most size bytes and a response.
func (c *Client) fetch(ctx context.Context, req *wire.FSRequest, size int64) (*fetch, error) {
	w := &fetch{stream: newStream(math.MaxInt), want: size}
	w.initRead(c, req.Bulk)
	stop, asked := givenUp(ctx, func(why error) {
		w.finish(why)
		w.from.Cancel()
	})
	defer asked()
	w.stop = stop
	if err := c.ask(req, w, &w.id); err != nil {
		w.stop()
		w.from.End()
		return nil, err
	}
	return w, nil
}

// ask sends a request, for r to receive the answer.
func (c *Client) ask(req *wire.FSRequest, r receiver, id *uint32) error {
	err := c.calls.add(func(free uint32) receiver {
		*id = free
		return r
	})
	if err != nil {
		return err
	}
	b, err := c.encode(*id, req)
	if err == nil {
		err = c.request(b)
	}
	if err != nil {
		c.calls.remove(*id, r)
	}
	return err
}

// reading is the fetches that are open, in order, and where the next begins.
type reading struct {
	open []*fetch
	next int64
	size int64 // Of the newest.
}

// drop discards the bytes that were read ahead, also those still on their way.
func (r *reading) drop() {
	for _, w := range r.open {
		_ = w.Close() // A stream's Close has no error.
		w.from.Cancel()
	}
	*r = reading{}
}

// ahead returns the fetch that has the bytes at pos; it asks for them, and for
// what follows, if it must.
func (f *File) ahead(pos int64) (*fetch, error) {
	r := &f.in
	switch len(r.open) {
	case 0:
		r.next, r.size = pos, firstFetch
	case fetches:
		return r.open[0], nil
	default:
		r.size = min(2*r.size, f.longest())
	}
	w, err := f.open(r.next, r.size)
	if err != nil {
		return nil, err
	}
	r.next += r.size
	r.open = append(r.open, w)
	return r.open[0], nil
}

// longest is the largest piece to ask for: raw records come only as they are read.
func (f *File) longest() int64 {
	if f.offer(bulkPiece) != nil {
		return bulkPiece
	}
	return readFetch
}

// take reads at the file's position by read, and moves the position.
func (f *File) take(read func(*stream) (int, error)) error {
	for {
		w, err := f.ahead(f.pos)
		if err != nil {
			return err
		}
		n, err := read(w.stream)
		f.pos += int64(n)
		w.from.Consumed(n)
		if err == nil {
			return nil
		}
		if err != io.EOF || w.short() { //nolint:errorlint // Ours, and bare.
			f.in.drop()
			return err
		}
		f.in.open = f.in.open[1:]
	}
}

// short reports whether the file ended in this piece, whose end was read.
func (w *fetch) short() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got < w.want
}

// Read reads at the file's position.
func (f *File) Read(p []byte) (int, error) {
	n, err := f.read(p)
	if err == io.EOF { //nolint:errorlint // Ours, and bare.
		return n, err
	}
	return n, pathError("read", f.name, err)
}

func (f *File) read(p []byte) (n int, err error) {
	unlock, err := f.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := f.out.flush(); err != nil || len(p) == 0 {
		return 0, err
	}
	err = f.take(func(s *stream) (int, error) {
		n, err = s.Read(p)
		return n, err
	})
	return n, err
}

// WriteTo writes the rest of the file to w, without copying it on the way.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	n, err := writeChunks(w, f.next, f.unread)
	return n, pathError("read", f.name, err)
}

// next takes the next bytes of the file, as many as came together. The file is not locked
// while the caller uses them.
func (f *File) next() (p []byte, err error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := f.out.flush(); err != nil {
		return nil, err
	}
	err = f.take(func(s *stream) (int, error) {
		p, err = s.next()
		return len(p), err
	})
	return p, err
}

// unread gives n bytes back that next has taken: they come again.
func (f *File) unread(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in.drop()
	f.pos -= int64(n)
}

// ReadAt reads from an offset, whatever the position. Calls do not wait for each
// other.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.readAt(p, offset)
	if err == io.EOF { //nolint:errorlint // Ours, and bare.
		return n, err
	}
	return n, pathError("read", f.name, err)
}

func (f *File) readAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, einval
	}
	if err := f.settle(); err != nil || len(p) == 0 {
		return 0, err
	}
	req := f.request(offset, int64(len(p)))
	d := &direct{rest: p, done: make(chan struct{})}
	d.initRead(f.c, req.Bulk)
	if err := f.c.ask(req, d, &d.id); err != nil {
		return 0, err
	}
	select {
	case <-d.done:
	case <-f.reads.Done():
		d.fail(causeOf(f.reads)) // p is the caller's again.
	}
	return d.result()
}

// A direct is a piece of a file that goes straight into its caller's memory.
type direct struct {
	flows
	done chan struct{}

	mu   sync.Mutex
	rest []byte // nil when the caller has its memory back.
	n    int
	over bool
	err  error
}

func (d *direct) receive(e wire.Envelope) error {
	switch {
	case isFlow(e.Type):
		return d.receiveFlow(e)
	case e.Type != wire.TypeFSData:
		_, refused, err := d.answered(e)
		if err == nil {
			d.fail(refused)
		}
		return err
	}
	data, err := wire.DataOf(e)
	if err != nil {
		return err
	}
	return d.keep(data)
}

func (d *direct) record(r wire.Record) error {
	if _, err := d.from.Record(r); err != nil {
		return err
	}
	d.from.Consumed(len(r.Data))
	return d.keep(r.Data)
}

func (d *direct) keep(data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return nil
	}
	if len(data) > len(d.rest) {
		return errUnexpected
	}
	n := copy(d.rest, data)
	d.rest, d.n = d.rest[n:], d.n+n
	return nil
}

// fail ends it, also with nil for a piece that came.
func (d *direct) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.over, d.err = true, err
	d.from.Cancel() // Unless the agent has ended it.
	if err == nil && len(d.rest) > 0 {
		d.err = io.EOF
	}
	d.rest = nil
	close(d.done)
}

func (d *direct) result() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n, d.err
}

// ReadFile returns a file's contents.
func (c *Client) ReadFile(ctx context.Context, name string) ([]byte, error) {
	f, err := c.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := f.contents()
	_ = f.Close() // It was only read.
	return b, err
}

// contents reads a whole file. Most are small: only one that does not fit the
// first piece is asked for its size.
func (f *File) contents() ([]byte, error) {
	b := make([]byte, firstFetch)
	n, err := f.ReadAt(b, 0)
	if err != nil {
		return b[:n:n], noEOF(err)
	}
	info, err := f.Stat()
	if err != nil {
		return b[:n], err
	}
	const more = 512 // For a file that has no size, or grows.
	// The guest reports the size: do not allocate more than a piece for bytes that have
	// not come.
	for size := max(min(info.Size(), bulkPiece), int64(n)) + more; ; size = 2*int64(n) + more {
		b = append(make([]byte, 0, size), b[:n]...)
		m, err := f.ReadAt(b[n:cap(b)], int64(n))
		if n += m; err != nil {
			return b[:n], noEOF(err)
		}
		b = b[:n]
	}
}

// noEOF returns err, or nil for io.EOF. A wrapped io.EOF is not the end of this reader.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // See above.
		return nil
	}
	return err
}
