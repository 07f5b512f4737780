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

// Error returns a line for people.
func (e *EnvelopeError) Error() string { return "decode envelope: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *EnvelopeError) Unwrap() error { return e.Err }

// DecodeEnvelope decodes the envelope in a frame's body. The error is an
// *EnvelopeError. An unknown type is not an error; see [Lookup].
func DecodeEnvelope(body []byte) (Envelope, error) {
	d := decoder{b: body}
	var v envelopeReader
	v.decode(&d)
	if d.err != nil {
		return Envelope{}, &EnvelopeError{
			Generation: v.Generation, GenerationKnown: v.seen.has(fieldV), Type: v.Type, Err: d.err,
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

func (v *envelopeReader) decode(d *decoder) {
	for in := d.enter(d.headOf(majorMap, errNotMap)); d.more(&in); {
		v.entry(d)
	}
	for i, name := range envelopeNames {
		if !v.seen.has(i) {
			d.fail(inField(name, errMissing))
		}
	}
}

func (v *envelopeReader) entry(d *decoder) {
	i := envelopeField(d.key())
	switch {
	case i == envelopeFields:
		d.skip()
		return
	case v.seen.has(i):
		d.fail(errDuplicate)
	default:
		v.value(d, i)
	}
	if d.err == nil {
		v.seen.add(i)
	}
	d.in(envelopeNames[i])
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

func (v *envelopeReader) value(d *decoder, i int) {
	switch i {
	case fieldV:
		v.Generation = decodeGeneration(d)
	case fieldT:
		v.Type = decodeType(d)
	default:
		v.Payload, _ = d.octets()
	}
}

// decodeGeneration refuses a float, unlike the decoder of other integers: every agent
// does so.
func decodeGeneration(d *decoder) Generation {
	h := d.headOf(majorUnsigned, errNotInteger)
	if h.arg > math.MaxUint8 {
		d.fail(errRange)
		return 0
	}
	return Generation(h.arg)
}

// decodeType returns our own copy of a name that we know.
func decodeType(d *decoder) Type {
	name := d.text(maxTypeName)
	if i := place(Type(name)); i >= 0 {
		return rows[i].Type
	}
	return Type(bytes.Clone(name))
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
