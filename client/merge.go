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
// 1 for stdout or stderr, and the length of the piece.
const labelSize = 5

// label puts a label before a piece. The stream may join pieces, so each carries its length.
func label(stderr bool, p []byte) []byte {
	b := make([]byte, labelSize, labelSize+len(p))
	if stderr {
		b[0] = 1
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(p)))
	return append(b, p...)
}

// errSinkTwice says that a Cmd has both Sink and Stdout or Stderr.
var errSinkTwice = errors.New("sink set beside stdout or stderr")

// copyTo passes the pieces of a stream of both outputs on.
func (f Sink) copyTo(from *stream) error {
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
		if err := f(head[0] == 1, piece[:n]); err != nil {
			return err
		}
	}
}
