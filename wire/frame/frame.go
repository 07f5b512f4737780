package frame

import (
	"encoding/binary"
	"strconv"
	"strings"
)

const (
	// HeaderSize is the length field, the id and the flags.
	HeaderSize = 4 + idAndFlags

	// MinLength is the smallest value of the length field: an empty body.
	MinLength = idAndFlags

	// MaxLength is the largest value of the length field. It is part of the protocol:
	// a peer that receives more ends the connection. The largest data chunk in use
	// has 3 MiB.
	MaxLength = 4 << 20

	// MaxBody is the longest body.
	MaxBody = MaxLength - idAndFlags

	// idAndFlags is the number of bytes that the length field counts besides the body.
	idAndFlags = 4 + 1
)

// Flags mark the frames that a peer must act on without decoding the body.
type Flags uint8

// The flags. Each message has fixed flags; see the table in package wire.
const (
	// Terminal says that no further frame follows on this id.
	Terminal Flags = 1 << iota
	// SessionStart opens a session on this id.
	SessionStart
	// Shutdown asks the machine to end.
	Shutdown
	// Bulk says that the body is a raw record and not an envelope.
	Bulk
)

var flagNames = [...]string{"terminal", "session-start", "shutdown", "bulk"}

// String names the set flags, joined by "|"; unknown bits are shown as a number.
func (f Flags) String() string {
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if rest := f >> len(flagNames) << len(flagNames); rest != 0 || f == 0 {
		names = append(names, strconv.Itoa(int(rest)))
	}
	return strings.Join(names, "|")
}

// Frame is one message with its routing data. The body is not interpreted.
type Frame struct {
	ID    uint32
	Flags Flags
	Body  []byte
}

// LengthError reports a frame whose length field is, or would be, below MinLength or
// above MaxLength. No peer may send such a frame.
type LengthError struct {
	Length uint32
}

// Error names the value and the rule.
func (e *LengthError) Error() string {
	rule := "above the maximum of " + strconv.Itoa(MaxLength)
	if e.Length < MinLength {
		rule = "below the minimum of " + strconv.Itoa(MinLength)
	}
	return "frame length " + strconv.FormatUint(uint64(e.Length), 10) + " is " + rule
}

// CheckBody returns a *LengthError when a body of n bytes does not fit a frame.
func CheckBody(n int) error {
	if n > MaxBody {
		return &LengthError{Length: uint32(min(int64(n)+idAndFlags, 1<<32-1))}
	}
	return nil
}

// Append appends the whole frame to dst. If the body is too long, it returns dst
// unchanged, and a *LengthError.
func Append(dst []byte, f Frame) ([]byte, error) {
	if err := CheckBody(len(f.Body)); err != nil {
		return dst, err
	}
	var head [HeaderSize]byte
	PutHeader(head[:], f.ID, f.Flags, len(f.Body))
	dst = append(dst, head[:]...)
	return append(dst, f.Body...), nil
}

// PutHeader writes the header of a frame with a body of the given length into
// b, which must have HeaderSize bytes. The caller checks that body is at most MaxBody.
func PutHeader(b []byte, id uint32, flags Flags, body int) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint32(b, uint32(body)+idAndFlags)
	binary.BigEndian.PutUint32(b[4:], id)
	b[8] = byte(flags)
}

// header is a decoded header with a valid length.
type header struct {
	body  int
	id    uint32
	flags Flags
}

// parseHeader reads a header from b, which must have HeaderSize bytes.
func parseHeader(b []byte) (header, error) {
	_ = b[HeaderSize-1]
	if err := checkLength(b); err != nil {
		return header{}, err
	}
	return header{
		body:  int(binary.BigEndian.Uint32(b)) - idAndFlags,
		id:    binary.BigEndian.Uint32(b[4:]),
		flags: Flags(b[8]),
	}, nil
}

// checkLength checks the length field. b must have its 4 bytes.
func checkLength(b []byte) error {
	n := binary.BigEndian.Uint32(b)
	if n < MinLength || n > MaxLength {
		return &LengthError{Length: n}
	}
	return nil
}
