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
	// zstdWindow is the largest accepted window: zstd --ultra -22 uses it, and it is
	// the most that zstd reads by default.
	zstdWindow = 128 << 20
	// xzDictionary is the largest accepted dictionary, the one of xz -9.
	xzDictionary = 64 << 20
)

// ErrTooLarge says that an input, or a part of it, exceeds the bound for its kind.
var ErrTooLarge = errors.New("larger than allowed")

var (
	gzipMagic = []byte{0x1f, 0x8b}
	xzMagic   = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	// skipMagic is the magic number of a frame without data: 0x184d2a50 to 0x184d2a5f;
	// a reader ignores the low four bits (RFC 8878, section 3.1.2). Parallel
	// compressors begin with such a frame.
	skipMagic = []byte{0x50, 0x2a, 0x4d, 0x18}
)

func hasZstdMagic(head []byte) bool {
	skip := len(head) > len(skipMagic) && head[0]&0xf0 == skipMagic[0] && bytes.Equal(head[1:len(skipMagic)], skipMagic[1:])
	return skip || bytes.HasPrefix(head, zstdMagic)
}

func hasCompressedMagic(head []byte) bool {
	return bytes.HasPrefix(head, gzipMagic) || bytes.HasPrefix(head, xzMagic) || hasZstdMagic(head)
}

// decompress detects gzip, xz, zstd or no compression by the first bytes of r. It joins
// consecutive streams, as the programs of those names do. Bytes after the last stream
// are an error, except zeros after gzip, and zeros of a multiple of four bytes after
// xz. Close releases the decoder, not r.
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

// unended turns the io.EOF of a cut header into io.ErrUnexpectedEOF.
func unended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// gzipMembers reads the members of a gzip file. It skips zeros after a member, as
// gzip(1) does: programs that write whole blocks leave them.
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

// next starts the next member, or returns io.EOF if there is none.
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

// readFull reads until b is full. Unlike io.ReadFull it returns the reader's own error:
// io.EOF is a regular end, and io.ErrUnexpectedEOF comes from a decompressor whose
// stream is cut.
func readFull(r io.Reader, b []byte) (n int, err error) {
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

// decompressAll returns the content of a file, decompressed if it is compressed.
func decompressAll(r io.Reader, limit int64) ([]byte, error) {
	d, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return readBounded(d, limit)
}
