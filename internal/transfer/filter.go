package transfer

import (
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
)

// A filter reads an archive of a machine and writes it again for another reader, without the
// members that accept refuses. What it writes is well formed whatever the machine sends.
type filter struct {
	from   *pax.Reader
	accept func(h *pax.Header) bool // It may change the header.
	done   func(h *pax.Header)
	bytes  *atomic.Int64

	head    *pax.Header // Of the current member.
	out     []byte      // What is read next.
	scratch []byte
	over    bool
}

// Read reads the archive that is written again.
func (f *filter) Read(b []byte) (int, error) {
	for len(f.out) == 0 {
		if f.over {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.out)
	f.out = f.out[n:]
	return n, nil
}

// next gets the next bytes, which may be none.
func (f *filter) next() (err error) {
	if f.head != nil {
		return f.contents()
	}
	h, err := f.from.Next()
	if errors.Is(err, io.EOF) {
		f.over, f.out = true, pax.End()
		return f.from.Drain()
	}
	if err != nil {
		return err
	}
	if _, err := tree.Split(h.Name); err != nil {
		return err
	}
	if !f.accept(h) {
		return nil
	}
	f.head = h
	f.scratch, err = pax.AppendHeader(f.scratch[:0], h)
	f.out = f.scratch
	return err
}

func (f *filter) contents() (err error) {
	f.out, err = f.from.Data()
	if errors.Is(err, io.EOF) {
		f.out = pax.Padding(f.head)
		f.done(f.head)
		f.head = nil
		return nil
	}
	f.bytes.Add(int64(len(f.out)))
	return err
}

// mayChown reports whether this process may make files of other owners, and devices.
func mayChown() bool { return os.Geteuid() == 0 }
