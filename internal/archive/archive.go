// Package archive reads tar archives and detects whether they are complete. The reader
// of package archive/tar reports no error for an archive that is cut between two
// members, so an unpacked or imported tree could be incomplete without an error.
package archive

import (
	"archive/tar"
	"errors"
	"io"
)

// ErrNoEnd is the error of [Reader.Next] for an archive that ends without an end block.
// Next has returned all of its members.
var ErrNoEnd = errors.New("the archive has no end blocks: it may be cut short")

// A Reader is a [tar.Reader] that distinguishes the end of an archive from a cut.
type Reader struct {
	*tar.Reader
	from counter
}

// NewReader returns a reader of an uncompressed archive.
func NewReader(r io.Reader) *Reader {
	a := &Reader{from: counter{r: r}}
	a.Reader = tar.NewReader(&a.from)
	return a
}

// blockSize is the block size of tar(5).
const blockSize = 512

// Next skips the rest of the current member and goes to the next one. It returns io.EOF at
// the end block, and [ErrNoEnd] if the archive ends without one. POSIX requires two end
// blocks; GNU tar accepts one.
func (a *Reader) Next() (*tar.Header, error) {
	if _, err := io.Copy(io.Discard, a.Reader); err != nil {
		return nil, err
	}
	member := a.from.n
	h, err := a.Reader.Next()
	// A cut after the records of a member (PAX) comes as io.EOF too, and leaves no block of zeros.
	short := (member+blockSize-1)/blockSize*blockSize+blockSize > a.from.n || a.from.zeros < blockSize
	if err == io.EOF && short { // A wrapped io.EOF is no end.
		err = ErrNoEnd
	}
	return h, err
}

// Drain reads the padding after the end, because the program that writes the archive fails
// if nobody reads it.
func (a *Reader) Drain() error {
	_, err := io.Copy(io.Discard, &a.from)
	return err
}

// A counter counts the bytes that are read.
type counter struct {
	r     io.Reader
	n     int64
	zeros int64 // How many bytes at the end of what was read are zero.
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	last := n
	for last > 0 && b[last-1] == 0 {
		last--
	}
	if last > 0 {
		c.zeros = 0
	}
	c.zeros += int64(n - last)
	return n, err
}
