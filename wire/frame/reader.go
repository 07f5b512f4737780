package frame

import (
	"errors"
	"io"
)

const (
	// bufferSize is the size of one read. A virtio port returns at most a page for
	// each, a socket or pipe up to 64 KiB, which also holds hundreds of small frames.
	bufferSize = 64 << 10

	// emptyReads is how many times in a row a reader may return nothing and no error.
	// After that it counts as broken, as in package bufio.
	emptyReads = 100
)

// Reader reads frames from a byte stream, however the stream is split. It is not safe
// for concurrent use.
//
// An error of the stream does not end a Reader: it keeps the bytes that it has read,
// and the next call of Next continues there. So a deadline can interrupt a read, and
// another reader can take the link over with Buffered. Only a *LengthError is final,
// because the start of the next frame is unknown then.
type Reader struct {
	// Spares has the memory for bodies. If it is nil or empty, each body is allocated.
	Spares *Spares

	r io.Reader

	buf        []byte
	start, end int // the bytes of buf that are read and not yet returned

	// A frame whose body is not completely in buf is collected here.
	partial bool
	head    [HeaderSize]byte
	frame   Frame
	whole   []byte // room for the header, if there is to be any, and frame.Body
	have    int    // of frame.Body

	short []byte // memory for a short body; empty while a body has it
}

const (
	// shortBody is the longest memory that Reuse keeps: messages without data fit.
	shortBody = 1 << 10
	// shortSlack is how much longer the memory of a short body may be than the body, besides
	// twice: a queue that counts used bytes must not hold much more.
	shortSlack = 64
)

// Reuse takes back the memory of a body that Next has returned and that nobody uses any more,
// for the next short body. The caller is Next's.
func (r *Reader) Reuse(body []byte) {
	if cap(body) <= shortBody {
		r.short = body[:cap(body)]
	}
}

// take returns n bytes with any content.
func (r *Reader) take(n int) []byte {
	if have := len(r.short); have < n || have > 2*n+shortSlack {
		return r.Spares.take(n)
	}
	b := r.short[:n]
	r.short = nil
	return b
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

// Next returns the next frame. Its body belongs to the caller. At the end of the stream
// the error is io.EOF between two frames and io.ErrUnexpectedEOF inside one. It is a
// *LengthError if the frame's length is invalid, and otherwise the stream's error.
func (r *Reader) Next() (Frame, error) {
	f, _, err := r.next(0)
	return f, err
}

// NextWhole is Next for a caller that forwards frames. whole is the frame as it was
// received: its header, and then f.Body.
func (r *Reader) NextWhole() (f Frame, whole []byte, err error) {
	f, whole, err = r.next(HeaderSize)
	if err != nil {
		return Frame{}, nil, err
	}
	if len(whole) == len(f.Body) { // A Next that was interrupted has begun it.
		whole = append(make([]byte, HeaderSize, HeaderSize+len(f.Body)), f.Body...)
		f.Body = whole[HeaderSize:]
	}
	PutHeader(whole, f.ID, f.Flags, len(f.Body))
	return f, whole, nil
}

// Raw reads len(b) bytes that are not a frame, at most some hundred. It may be called
// between two frames. The error is io.EOF only if none of them has arrived.
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

// begin reads a header and the bytes of its body that are in the buffer. room is the
// space before the body.
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
	// Allocate the whole body at once, because growing it would copy it again. A peer
	// that announces much and sends little wastes 4 MiB, since a link has one Reader.
	r.whole = r.take(room + h.body)
	r.frame = Frame{ID: h.id, Flags: h.flags, Body: r.whole[room:]}
	r.have = copy(r.frame.Body, r.buf[r.start:r.end])
	r.start += r.have
	r.partial = true
	return nil
}

// fill reads more into the buffer, of which less than a header is in use.
func (r *Reader) fill() error {
	if len(r.buf) > bufferSize {
		r.shrink() // it is large only if NewReaderFrom made it so
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

// fillBody reads the rest of a body directly into the body.
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

// readSome reads at least one byte, or returns an error. It drops an error that comes
// with bytes: the next call gets it again.
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
