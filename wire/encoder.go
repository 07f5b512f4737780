package wire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// encoder appends CBOR in its shortest form. It keeps the first error.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// encodeField encodes the value of a field, and puts its name into an error.
func (e *encoder) encodeField(name string, v value) {
	before := e.err
	v.encode(e)
	if before == nil && e.err != nil {
		e.err = inField(name, e.err)
	}
}

// head appends the shortest head.
func (e *encoder) head(m major, n uint64) {
	e.b = appendHead(e.b, m, n)
}

func appendHead(b []byte, m major, n uint64) []byte {
	top := byte(m) << 5
	switch {
	case n < infoByte:
		return append(b, top|byte(n))
	case n <= math.MaxUint8:
		return append(b, top|infoByte, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, top|infoByte+1), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, top|infoByte+2), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, top|infoByte+3), n)
	}
}

// headSize is the length of the shortest head for n.
func headSize(n int) int {
	switch {
	case n < infoByte:
		return 1
	case n <= math.MaxUint8:
		return 2
	case n <= math.MaxUint16:
		return 3
	default:
		return maxHead // a frame is far below the next step
	}
}

// maxHead is the longest head of anything inside a frame: a 4-byte argument.
const maxHead = 5

func (e *encoder) text(s string) {
	if !utf8.ValidString(s) {
		e.fail(errUTF8)
	}
	e.head(majorText, uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) octets(p []byte) {
	e.head(majorBytes, uint64(len(p)))
	e.b = append(e.b, p...)
}

func (e *encoder) null() {
	e.b = append(e.b, cborNull)
}

// open begins a byte string whose length is known only at its end: it leaves room for the
// longest head. The string begins where the result says.
func (e *encoder) open() (start int) {
	var room [maxHead]byte
	start = len(e.b)
	e.b = append(e.b, room[:]...)
	return start
}

// close ends the byte string that open began, and closes the gap before it.
func (e *encoder) close(start int) {
	n := len(e.b) - start - maxHead
	content := start + headSize(n)
	copy(e.b[content:], e.b[start+maxHead:])
	appendHead(e.b[:start], majorBytes, uint64(n))
	e.b = e.b[:content+n]
}
