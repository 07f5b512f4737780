package frame

import (
	"errors"
	"io"
)

const (
	// bufferSize is one read. A virtio port gives at most a page for each, a
	// socket or pipe up to 64 KiB, which also holds hundreds of small frames.
	bufferSize = 64 << 10

	// emptyReads is how often in a row a reader may return nothing and no
	// error before it counts as broken, as in package bufio.
	emptyReads = 100
)

// Reader takes frames out of a byte stream, however the stream is split. It is
// not safe for concurrent use.
//
// An error of the stream does not end a Reader: it keeps what it has read, and the
// next call of Next goes on from there. So a read can be interrupted by a deadline
// and the link, with Buffered, be given to somebody else. Only a *LengthError is
// final, because nothing tells where the next frame would begin.
type Reader struct {
	// Spares is where the memory of bodies comes from; nil allocates each. They are
	// only ever what somebody has given there.
	Spares *Spares

	r io.Reader

	buf        []byte
	start, end int // what has been read into buf and not been taken out

	// A frame whose body is not wholly in buf is collected here.
	partial bool
	head    [HeaderSize]byte
	frame   Frame
	whole   []byte // room for the header, if there is to be any, and frame.Body
	have    int    // of frame.Body
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, buf: make([]byte, bufferSize)}
}

// NewReaderFrom returns a Reader that begins with leftover, the Buffered bytes of
// another Reader, and goes on with r. It copies leftover.
func NewReaderFrom(leftover []byte, r io.Reader) *Reader {
	fr := &Reader{r: r, buf: make([]byte, max(bufferSize, len(leftover)))}
	fr.end = copy(fr.buf, leftover)
	return fr
}

// Buffered returns a copy of everything that was read from the stream and not
// returned by Next, a partly read frame included.
func (r *Reader) Buffered() []byte {
	var b []byte
	if r.partial {
		b = append(b, r.head[:]...)
		b = append(b, r.frame.Body[:r.have]...)
	}
	return append(b, r.buf[r.start:r.end]...)
}

// Next returns the next frame; its body belongs to the caller. The error is
// io.EOF only between two frames and io.ErrUnexpectedEOF inside one; a
// *LengthError if the peer breaks the rule; else that of the stream.
func (r *Reader) Next() (Frame, error) {
	f, _, err := r.next(0)
	return f, err
}

// NextWhole is Next for who passes frames on: whole is the frame as it came, its
// header and f.Body after that.
func (r *Reader) NextWhole() (f Frame, whole []byte, err error) {
	f, whole, err = r.next(HeaderSize)
	if err != nil {
		return Frame{}, nil, err
	}
	if len(whole) == len(f.Body) { // Begun by a Next that was interrupted.
		whole = append(make([]byte, HeaderSize, HeaderSize+len(f.Body)), f.Body...)
		f.Body = whole[HeaderSize:]
	}
	PutHeader(whole, f.ID, f.Flags, len(f.Body))
	return f, whole, nil
}

// Raw reads what stands between two frames into b, at most some hundred bytes. The error is io.EOF only if none of it has come.
func (r *Reader) Raw(b []byte) error {
	for r.end-r.start < len(b) {
		if err := r.fill(); err != nil {
			return err
		}
	}
	r.start += copy(b, r.buf[r.start:r.end])
	return nil
}

func (r *Reader) next(room int) (f Frame, whole []byte, err error) {
	if !r.partial {
		if err := r.begin(room); err != nil {
			return Frame{}, nil, err
		}
	}
	if err := r.fillBody(); err != nil {
		return Frame{}, nil, err
	}
	f, whole = r.frame, r.whole
	r.partial, r.frame, r.whole, r.have = false, Frame{}, nil, 0
	return f, whole, nil
}

// begin reads a header and what there is of its body, which gets room before it.
func (r *Reader) begin(room int) error {
	for r.end-r.start < HeaderSize {
		if r.end-r.start >= 4 {
			if err := checkLength(r.buf[r.start:]); err != nil {
				return err
			}
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
	h, err := parseHeader(r.buf[r.start:])
	if err != nil {
		return err
	}
	r.start += copy(r.head[:], r.buf[r.start:])
	// The whole body at once: growing would copy it again, and a link has one
	// Reader, so a peer that announces much and sends little holds 4 MiB.
	r.whole = r.Spares.take(room + h.body)
	r.frame = Frame{ID: h.id, Flags: h.flags, Body: r.whole[room:]}
	r.have = copy(r.frame.Body, r.buf[r.start:r.end])
	r.start += r.have
	r.partial = true
	return nil
}

// fill reads more into the buffer, of which less than a header is in use.
func (r *Reader) fill() error {
	if len(r.buf) > bufferSize {
		r.shrink() // large only for what it was made with
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	n, err := readSome(r.r, r.buf[r.end:])
	r.end += n
	if err == io.EOF && r.end > 0 { //nolint:errorlint // io.Reader returns it bare
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) shrink() {
	small := make([]byte, bufferSize)
	r.end = copy(small, r.buf[r.start:r.end])
	r.buf, r.start = small, 0
}

// fillBody reads the rest of a body straight to where it belongs.
func (r *Reader) fillBody() error {
	for r.have < len(r.frame.Body) {
		n, err := readSome(r.r, r.frame.Body[r.have:])
		r.have += n
		if err == io.EOF { //nolint:errorlint // io.Reader returns it bare
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errCount reports a reader that breaks the contract of io.Reader.
var errCount = errors.New("reader returned an impossible count")

// readSome reads at least one byte, or returns an error. An error that comes with
// bytes is left for the next call, which meets it again.
func readSome(r io.Reader, p []byte) (int, error) {
	for range emptyReads {
		n, err := r.Read(p)
		switch {
		case n < 0 || n > len(p):
			return 0, errCount
		case n > 0:
			return n, nil
		case err != nil:
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}
