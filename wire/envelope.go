package wire

import (
	"bytes"
	"math"
)

// maxTypeName bounds the name of an unknown message type, because the answer repeats
// it. The longest known name has 30 bytes.
const maxTypeName = 128

// Envelope is a frame's body whose payload is not yet decoded.
type Envelope struct {
	Generation Generation // the sender's
	Type       Type       // may be unknown; see Lookup
	Payload    []byte     // shares the memory of the body that it was decoded from if that is little longer
}

// EnvelopeError reports a body that is not an envelope. It has the fields that were
// read before the error: the sender's generation decides whether the sender understands
// an answer.
type EnvelopeError struct {
	Generation      Generation
	GenerationKnown bool
	Type            Type // "" if not known
	Err             error
}

func (e *EnvelopeError) Error() string { return "decode envelope: " + e.Err.Error() }
func (e *EnvelopeError) Unwrap() error { return e.Err }

// DecodeEnvelope decodes the envelope in a frame's body. The error is an
// *EnvelopeError. An unknown type is not an error; see [Lookup].
func DecodeEnvelope(body []byte) (Envelope, error) {
	d := decoder{b: body}
	var v envelopeReader
	if err := v.decode(&d); err != nil {
		return Envelope{}, &EnvelopeError{
			Generation: v.Generation, GenerationKnown: v.seen.has(fieldV), Type: v.Type, Err: err,
		}
	}
	v.Payload = alone(v.Payload, body)
	return v.Envelope, nil
}

// maxCompany is the number of other bytes that a part may keep alive. A data message in
// the forms that senders use has 51 bytes around its data.
const maxCompany = 1 << 10

// alone returns a part of whole. If whole is much longer, it returns a copy, because
// callers that bound their memory count only the part.
func alone(part, whole []byte) []byte {
	if len(whole)-len(part) > maxCompany {
		return bytes.Clone(part)
	}
	return part
}

// The entries of an envelope.
const (
	fieldV = iota
	fieldT
	fieldP
	envelopeFields
)

var envelopeNames = [envelopeFields]string{fieldV: "v", fieldT: "t", fieldP: "p"}

// envelopeReader fills an envelope entry by entry. It is not described by fields, as
// payloads are, so that it decodes a frame without an allocation.
type envelopeReader struct {
	Envelope
	seen fieldSet
}

func (v *envelopeReader) decode(d *decoder) error {
	h, err := d.head()
	if err != nil {
		return err
	}
	if h.major != majorMap {
		return errNotMap
	}
	in, err := d.enter(h)
	for err == nil && d.more(&in) {
		err = v.entry(d)
	}
	if err != nil {
		return err
	}
	for i, name := range envelopeNames {
		if !v.seen.has(i) {
			return inField(name, errMissing)
		}
	}
	return nil
}

func (v *envelopeReader) entry(d *decoder) error {
	key, err := d.key()
	if err != nil {
		return err
	}
	i := envelopeField(key)
	switch {
	case i == envelopeFields:
		return d.skip()
	case v.seen.has(i):
		err = errDuplicate
	default:
		err = v.value(d, i)
	}
	if err != nil {
		return inField(envelopeNames[i], err)
	}
	v.seen.add(i)
	return nil
}

// envelopeField returns the field of a key, or envelopeFields for a key that envelopes
// do not have.
func envelopeField(key []byte) int {
	for i, name := range envelopeNames {
		if string(key) == name {
			return i
		}
	}
	return envelopeFields
}

func (v *envelopeReader) value(d *decoder, i int) (err error) {
	switch i {
	case fieldV:
		v.Generation, err = decodeGeneration(d)
	case fieldT:
		v.Type, err = decodeType(d)
	default:
		v.Payload, _, err = d.octets()
	}
	return err
}

// decodeGeneration refuses a float, unlike the decoder of other integers: every agent
// does so.
func decodeGeneration(d *decoder) (Generation, error) {
	h, err := d.head()
	if err != nil {
		return 0, err
	}
	if h.major != majorUnsigned {
		return 0, errNotInteger
	}
	if h.arg > math.MaxUint8 {
		return 0, errRange
	}
	return Generation(h.arg), nil
}

// decodeType returns our own copy of a name that we know.
func decodeType(d *decoder) (Type, error) {
	name, err := d.text(maxTypeName)
	if err != nil {
		return "", err
	}
	if i := place(Type(name)); i >= 0 {
		return rows[i].Type, nil
	}
	return Type(bytes.Clone(name)), nil
}

// appendEnvelopeHead appends an envelope up to the payload.
func appendEnvelopeHead(b []byte, gen Generation, t Type) []byte {
	b = append(b, byte(majorMap)<<5|envelopeFields, byte(majorText)<<5|1, 'v')
	b = appendHead(b, majorUnsigned, uint64(gen))
	b = append(b, byte(majorText)<<5|1, 't')
	b = appendHead(b, majorText, uint64(len(t)))
	b = append(b, t...)
	return append(b, byte(majorText)<<5|1, 'p')
}
