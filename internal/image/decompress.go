package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

const (
	// zstdWindow is the largest window that is accepted: what zstd --ultra -22
	// makes, and what zstd reads without being told otherwise.
	zstdWindow = 128 << 20
	// xzDictionary is the largest dictionary that is accepted: that of xz -9.
	xzDictionary = 64 << 20
)

// ErrTooLarge is found in the error for an input, or a part of one, that is
// larger than anything of its kind has a reason to be.
var ErrTooLarge = errors.New("larger than allowed")

var (
	gzipMagic = []byte{0x1f, 0x8b}
	xzMagic   = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	// skipMagic is that of a frame that holds no data: 0x184d2a50 to 0x184d2a5f,
	// of which a reader passes over the low four bits (RFC 8878, section 3.1.2).
	// Parallel compressors begin with one.
	skipMagic = []byte{0x50, 0x2a, 0x4d, 0x18}
)

func hasZstdMagic(head []byte) bool {
	skip := len(head) > len(skipMagic) && head[0]&0xf0 == skipMagic[0] && bytes.Equal(head[1:len(skipMagic)], skipMagic[1:])
	return skip || bytes.HasPrefix(head, zstdMagic)
}

// decompress reads r as what its first bytes say that it is: gzip, xz, zstd or
// none of them. Several streams that follow each other are one, as for the programs
// of those names. Whatever stands after the last one is an error, except zeros
// after gzip, and zeros of a multiple of four bytes after xz. Close releases the
// decoder, not r.
//
// A stream that is cut gives an error that is not io.EOF, often
// io.ErrUnexpectedEOF: callers must not take the latter for an end.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(len(xzMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, unended(err)
		}
		z.Multistream(false)
		return &gzipMembers{b, z}, nil
	case bytes.HasPrefix(head, xzMagic):
		x, err := xz.NewReader(b, xzDictionary)
		return io.NopCloser(x), err
	case hasZstdMagic(head):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// unended says of an end inside a header that it is too early.
func unended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// gzipMembers reads the members of a gzip file, and passes over the zeros that
// follow one: programs that write whole blocks leave them, and gzip(1) does so.
type gzipMembers struct {
	from *bufio.Reader
	*gzip.Reader
}

func (g *gzipMembers) Read(b []byte) (int, error) {
	n, err := g.Reader.Read(b)
	if err != io.EOF { //nolint:errorlint // A reader's end is not wrapped.
		return n, err
	}
	return n, g.next()
}

// next goes to the next member; io.EOF says that there is none.
func (g *gzipMembers) next() error {
	for {
		c, err := g.from.ReadByte()
		if err != nil {
			return err
		}
		if c == 0 {
			continue
		}
		if err := g.from.UnreadByte(); err != nil {
			return err
		}
		if err := g.Reset(g.from); err != nil {
			return fmt.Errorf("after the end of a gzip stream: %w", unended(err))
		}
		g.Multistream(false)
		return nil
	}
}

// fill reads until b is full. Unlike io.ReadFull it returns the reader's own error,
// so that io.EOF alone is an end: io.ErrUnexpectedEOF is that of a decompressor
// whose stream is cut.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// readBounded reads all of r, but never more than limit bytes.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w (%d bytes)", ErrTooLarge, limit)
	}
	return b, err
}

// decompressAll returns the content of a file that may be compressed.
func decompressAll(r io.Reader, limit int64) ([]byte, error) {
	d, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return readBounded(d, limit)
}
