package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/agentd-go/agentd/internal/archive"
	"github.com/agentd-go/agentd/internal/image/oci"
)

const (
	// Four pieces of a quarter MiB keep two processors busy: one unpacks a layer, the
	// other decompresses and hashes the next pieces.
	pumpPieces = 4
	pumpBytes  = 256 << 10
	// layerBytes bounds a layer, which may be mostly padding: twice the bound of an
	// image's files.
	layerBytes = 256 << 30
)

// A pump reads ahead, on a goroutine of its own, and hashes what it reads.
type pump struct {
	full  chan []byte // Closed at the end.
	free  chan []byte
	stop  chan struct{}
	ended chan struct{}
	hash  hash.Hash
	err   error // The reader's error; read it only after full is closed.

	piece, rest []byte
}

func newPump(r io.Reader) *pump {
	p := &pump{
		full: make(chan []byte, pumpPieces), free: make(chan []byte, pumpPieces),
		stop: make(chan struct{}), ended: make(chan struct{}), hash: sha256.New(),
	}
	for range pumpPieces {
		p.free <- make([]byte, pumpBytes)
	}
	go p.run(r)
	return p
}

func (p *pump) run(r io.Reader) {
	defer close(p.ended)
	defer close(p.full)
	for {
		select {
		case <-p.stop:
			return
		case b := <-p.free:
			n, err := readFull(r, b[:pumpBytes])
			p.hash.Write(b[:n])
			p.full <- b[:n] // Never blocks: the channel has room for all pieces.
			if err != nil {
				p.err = err
				return
			}
		}
	}
}

func (p *pump) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.piece != nil {
			p.free <- p.piece
			p.piece = nil
		}
		piece, ok := <-p.full
		if !ok {
			return 0, p.err
		}
		p.piece, p.rest = piece, piece
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// close ends the goroutine. After it the caller may use the reader again.
func (p *pump) close() {
	close(p.stop)
	<-p.ended
}

// contextReader returns the context's error from the first read after its end.
type contextReader struct {
	ctx context.Context //nolint:containedctx // The reader is the call.
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// readLayer passes the archive inside a layer to use, and then checks both digests of
// the layer. The caller keeps nothing that use has made unless readLayer returns nil.
func readLayer(ctx context.Context, l oci.Layer, use func(io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := l.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	count := func(n int) { advance(ctx, int64(n), 0) }
	if l.Far {
		count = func(int) {} // The fetch has counted it.
	}
	var in io.Reader = contextReader{ctx, countingReader{r, count}}
	stored := sha256.New()
	if packed(l) {
		in = io.TeeReader(in, stored)
	}
	d, err := decompress(in)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	limited := &io.LimitedReader{R: d, N: layerBytes}
	p := newPump(limited)
	defer func() {
		cancel() // Otherwise a slow registry could block the pump.
		p.close()
	}()
	if err := use(p); err != nil && (l.Unnamed || !errors.Is(err, archive.ErrNoEnd)) {
		return err // The digest shows that the archive is whole, even without end blocks.
	}
	// The digest includes the bytes after the archive's end.
	if _, err := io.Copy(io.Discard, p); err != nil {
		return err
	}
	if limited.N == 0 {
		return fmt.Errorf("%w (%d bytes)", ErrTooLarge, int64(layerBytes))
	}
	return checkDigests(l, stored, p.hash)
}

// packed reports whether the stored (compressed) form of a layer has a digest of its
// own.
func packed(l oci.Layer) bool { return l.Stored != "" && l.Stored != l.DiffID }

func checkDigests(l oci.Layer, stored, inside hash.Hash) error {
	if got := oci.Sum(stored.Sum(nil)); packed(l) && got != l.Stored {
		return fmt.Errorf("%w: it is %s, named was %s", oci.ErrDigest, got, l.Stored)
	}
	if got := oci.Sum(inside.Sum(nil)); l.DiffID != "" && got != l.DiffID {
		return fmt.Errorf("%w: its archive is %s, named was %s", oci.ErrDigest, got, l.DiffID)
	}
	return nil
}
