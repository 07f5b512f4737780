package client

import (
	"encoding/binary"
	"errors"
	"io"
)

// A Sink takes the output of a command in the order in which it arrives: pieces of
// stdout and of stderr, as they were read in the guest. It must not keep p. One
// goroutine at a time calls it; after its first error the rest is discarded.
type Sink func(stderr bool, p []byte) error

// labelSize is the length of the label before each piece in a stream of both outputs: 0 or
// 1 for stdout or stderr, and the length of the piece. With gapLabel added the piece is the
// offset at which the output goes on.
const (
	labelSize = 5
	gapLabel  = 2
)

// label puts a label before a piece. The stream may join pieces, so each carries its length.
func label(stderr bool, p []byte) []byte {
	b := make([]byte, labelSize, labelSize+len(p))
	if stderr {
		b[0] = 1
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(p)))
	return append(b, p...)
}

// labelGap is a label for a gap.
func labelGap(stderr bool, offset uint64) []byte {
	b := label(stderr, binary.BigEndian.AppendUint64(nil, offset))
	b[0] |= gapLabel
	return b
}

// errSinkTwice says that a Cmd has both Sink and Stdout or Stderr.
var errSinkTwice = errors.New("sink set beside stdout or stderr")

// copyTo passes the pieces of a stream of both outputs on, and its gaps to gap.
func (f Sink) copyTo(from *stream, gap func(stderr bool, offset uint64)) error {
	var head [labelSize]byte
	var piece []byte
	for {
		if _, err := io.ReadFull(from, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[1:]))
		if cap(piece) < n {
			piece = make([]byte, n)
		}
		if _, err := io.ReadFull(from, piece[:n]); err != nil {
			return err
		}
		stderr := head[0]&1 != 0
		if head[0]&gapLabel != 0 {
			gap(stderr, binary.BigEndian.Uint64(piece[:n]))
		} else if err := f(stderr, piece[:n]); err != nil {
			return err
		}
	}
}
