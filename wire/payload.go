package wire

import (
	"errors"

	"github.com/agentd-go/agentd/wire/frame"
)

// Message is the payload of one message type: a pointer to one of this package's
// message structs.
type Message interface {
	Type() Type
	record
}

// PayloadError reports a payload that is not what its type demands, or that
// cannot be encoded.
type PayloadError struct {
	Type  Type
	Field string // a path such as network.ipv4.address; "" for the payload as a whole
	Err   error
}

// Error returns a line for people.
func (e *PayloadError) Error() string {
	where := string(e.Type)
	if e.Field != "" {
		where += ": " + e.Field
	}
	return "payload of " + where + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *PayloadError) Unwrap() error { return e.Err }

func payloadError(t Type, err error) error {
	if in, ok := errors.AsType[*fieldError](err); ok {
		return &PayloadError{Type: t, Field: in.path, Err: in.err}
	}
	return &PayloadError{Type: t, Err: err}
}

// UnknownTypeError reports a message type that is not in the index.
type UnknownTypeError struct {
	Type Type
}

// Error returns a line for people.
func (e *UnknownTypeError) Error() string {
	return "unknown message type " + string(e.Type)
}

// Decode opens the payload of an envelope. The error is a *PayloadError or an
// *UnknownTypeError. The message owns its memory.
func Decode(e Envelope) (Message, error) {
	i := place(e.Type)
	if i < 0 {
		return nil, &UnknownTypeError{Type: e.Type}
	}
	m := rows[i].make()
	if e.Type == TypeShutdown {
		return m, nil // whatever its payload is: it must never fail to be heard
	}
	d := decoder{b: e.Payload}
	entries(m.fields()).decode(&d)
	if d.err != nil {
		return nil, payloadError(e.Type, d.err)
	}
	return m, nil
}

// shortFrame is what most frames fit into that are made from nothing: an answer about
// a file has 140 bytes and its path.
const shortFrame = 192

// AppendFrame appends the whole frame of a message to dst, with the flags of its
// type. On error it returns dst as it was: a *PayloadError when a field holds what
// the protocol cannot express, a *frame.LengthError when the frame is too long.
func AppendFrame(dst []byte, gen Generation, id uint32, m Message) ([]byte, error) {
	info, _ := Lookup(m.Type())
	if dst == nil {
		dst = make([]byte, 0, shortFrame)
	}
	start := len(dst)
	var room [frame.HeaderSize]byte
	e := encoder{b: append(dst, room[:]...)}
	e.b = appendEnvelopeHead(e.b, gen, info.Type)
	payload := e.open()
	e.payload(m)
	e.close(payload)
	if e.err != nil {
		return dst, payloadError(info.Type, e.err)
	}
	body := len(e.b) - start - frame.HeaderSize
	if err := frame.CheckBody(body); err != nil {
		return dst, err
	}
	frame.PutHeader(e.b[start:], id, info.Flags, body)
	return e.b, nil
}

func (e *encoder) payload(m Message) {
	if m.Type() == TypeShutdown {
		e.null()
		return
	}
	entries(m.fields()).encode(e)
}
