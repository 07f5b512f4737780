// Package archive reads tar archives to their end. The reader of package archive/tar
// takes an archive that is cut between two members for one that has ended; whoever
// unpacks or imports it would have a part and no error.
package archive

import (
	"archive/tar"
	"errors"
	"io"
)

// ErrNoEnd is found in the error of [Reader.Next] for an archive that ends without an end
// block. All of its members were returned.
var ErrNoEnd = errors.New("the archive has no end blocks: it may be cut short")

// A Reader is a [tar.Reader] that tells the end of an archive from a cut.
type Reader struct {
	*tar.Reader
	from counter
}

// NewReader reads an archive that is not compressed.
func NewReader(r io.Reader) *Reader {
	a := &Reader{from: counter{r: r}}
	a.Reader = tar.NewReader(&a.from)
	return a
}

// blockSize is that of tar(5), in which an archive is written.
const blockSize = 512

// Next goes to the next member, over what is left of the present one. At the end block
// it returns io.EOF, and [ErrNoEnd] where the archive ends without one: POSIX has two, GNU
// tar is content with one.
func (a *Reader) Next() (*tar.Header, error) {
	if _, err := io.Copy(io.Discard, a.Reader); err != nil {
		return nil, err
	}
	member := a.from.n
	h, err := a.Reader.Next()
	if err == io.EOF && (member+blockSize-1)/blockSize*blockSize+blockSize > a.from.n { // A wrapped one is no end.
		err = ErrNoEnd
	}
	return h, err
}

// Drain reads what programs put after the end, to whole records: they fail if nobody does.
func (a *Reader) Drain() error {
	_, err := io.Copy(io.Discard, &a.from)
	return err
}

// A counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
