// Package wire is the contract between a host and the agent in its guest: every
// message, the generation of the protocol that introduced it, and its exact bytes.
//
// A frame (package frame) carries an envelope, and the envelope a payload:
//
//	frame     length, id, flags
//	envelope  CBOR map: v the sender's generation, t the message type, p see below
//	payload   CBOR map of the message's own fields, as a byte string in p
//
// [DecodeEnvelope] opens the first layer and [Decode] the second, so that a
// receiver can route, refuse or skip a message that it does not know. [AppendFrame]
// writes all three. Data messages, which are nearly all of the traffic, have a
// way that neither allocates nor copies: [PutDataHead] and [DataOf].
//
// Each message is described once, by its fields method; encoding, decoding and
// the printed schema in testdata/schema all walk that description, so they cannot
// disagree. The codec is our own because the contract is narrower and wider than
// a general one at once: it accepts byte strings written as arrays of integers and
// integers written as floats (JavaScript clients send both), it refuses null and
// missing fields that a general decoder would quietly leave zero, and one walk
// over the input enforces the limits on depth, list elements and text.
//
// What is emitted is fixed to the byte: definite lengths, shortest heads, fields
// in the order of their description. A released generation never changes: fields
// are only added, as optional ones, and a new message type is a new generation.
//
//	b, err := wire.AppendFrame(nil, wire.Newest, id, &wire.Ping{})
//
//	f, err := frames.Next() // A frame.Reader.
//	e, err := wire.DecodeEnvelope(f.Body)
//	m, err := wire.Decode(e) // *wire.Pong, say; *wire.UnknownTypeError for a later type.
//
// Decoded messages own their memory. The exceptions say so: [Envelope.Payload],
// the result of [DataOf] and [Record.Data] may share the frame's body.
//
// # Stability
//
// What is on the link is stable: a released generation keeps its bytes. The Go names are
// version 0 and may change with each 0.x release. CHANGELOG.md names each change and what
// to write in its place; a patch release changes none.
package wire
