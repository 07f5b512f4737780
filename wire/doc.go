// Package wire is the contract between a host and the agent in its guest: every
// message, the generation of the protocol that introduced it, and its exact bytes.
//
// A frame (package frame) carries an envelope, and the envelope a payload:
//
//	frame     length, id, flags
//	envelope  CBOR map: v the sender's generation, t the message type, p see below
//	payload   CBOR map of the message's own fields, as a byte string in p
//
// [DecodeEnvelope] decodes the envelope and [Decode] the payload, so a receiver can
// route, refuse or skip a message that it does not know. [AppendFrame] writes all three
// layers. Most of the traffic is data messages; [PutDataHead] and [DataOf] write and
// read them without an allocation or a copy.
//
// Each message is described once, by its fields method. Encoding, decoding and the
// printed schema in testdata/schema all use that description, so they cannot disagree.
// The codec is our own because no general decoder has the protocol's rules. It accepts
// byte strings written as arrays of integers, and integers written as floats, because
// JavaScript clients send both. It refuses null and missing fields, which a general
// decoder would leave zero. And it enforces the limits on depth, list elements and text
// in the same pass.
//
// Every encoded byte is determined: definite lengths, shortest heads, fields in the
// order of their description. A released generation never changes: fields are only
// added, as optional ones, and a new message type needs a new generation, or the name of
// an extension that this project's agent announces ([Ready.Extensions]).
//
//	b, err := wire.AppendFrame(nil, wire.Newest, id, &wire.Ping{})
//
//	f, err := frames.Next() // A frame.Reader.
//	e, err := wire.DecodeEnvelope(f.Body)
//	m, err := wire.Decode(e) // A *wire.Pong; a *wire.UnknownTypeError for a later type.
//
// Decoded messages own their memory, with three exceptions: [Envelope.Payload], the
// result of [DataOf] and [Record.Data] may share the frame's body.
//
// # Stability
//
// The bytes on the link are stable: a released generation keeps them. The Go names are
// version 0 and may change with each 0.x release. CHANGELOG.md names each change and its
// replacement. A patch release changes none.
package wire
