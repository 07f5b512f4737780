package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// zstdWindow is the largest window that is accepted. The kernel's and dpkg's
// own settings need at most 128 MiB (zstd --ultra -22).
const zstdWindow = 128 << 20

// ErrTooLarge is found in the error for an input, or a part of one, that is
// larger than anything of its kind has a reason to be.
var ErrTooLarge = errors.New("larger than allowed")

var (
	gzipMagic = []byte{0x1f, 0x8b}
	xzMagic   = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress reads r as what its first bytes say that it is: gzip, xz, zstd or
// none of them. Close releases the decoder, not r.
//
// The xz library reserves the dictionary that a file declares, up to 4 GiB, and
// has no option to refuse one. Memory is taken only as far as it is filled,
// which the bounds on what is read from here limit.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(len(xzMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, xzMagic):
		x, err := xz.NewReader(b)
		return io.NopCloser(x), err
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
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
