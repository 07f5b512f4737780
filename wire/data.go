package wire

import (
	"bytes"

	"github.com/agentd-go/agentd/wire/frame"
)

// dataField is the one field of the five data messages.
const dataField = "data"

const (
	// DataHead is the room that PutDataHead needs before the data. The
	// longest prefix is 51 bytes: frame header 9, envelope map and keys 7,
	// generation 2, type 17, payload head 5, map and key of the data 6, data
	// head 5. Rounded up to a cache line, data in an aligned buffer is aligned.
	DataHead = 64

	// MaxData is how much data fits one frame whatever the type and
	// generation: what the longest prefix leaves of a body.
	MaxData = frame.MaxBody - (51 - frame.HeaderSize)
)

// tooMuchData has an element for every n that PutDataHead takes.
type tooMuchData [MaxData + 1]struct{}

// PutDataHead makes a whole frame out of data that lies at b[DataHead:DataHead+n]:
// it writes everything that comes before the data so that it ends there, and the
// frame is b[start:DataHead+n]. The type must be one whose payload is data and
// nothing else: TypeExecStdin, TypeExecStdout, TypeExecStderr, TypeFSData or
// TypeTCPData. It allocates nothing and copies no data. More than MaxData, or a b
// too short for the data, is an index out of range, as it is with a slice.
func PutDataHead(b []byte, gen Generation, id uint32, t Type, n int) (start int) {
	_ = tooMuchData{}[n]
	_ = b[:DataHead+n]
	var room [DataHead]byte
	// The prefix has to end where the data begins, and its length is known
	// only when it is complete: build it aside, then move it.
	payload := len(dataKey) + headSize(n) + n
	head := appendEnvelopeHead(room[:frame.HeaderSize], gen, t)
	head = appendHead(head, majorBytes, uint64(payload))
	head = append(head, dataKey...)
	head = appendHead(head, majorBytes, uint64(n))
	frame.PutHeader(head, id, 0, len(head)-frame.HeaderSize+n)
	copy(b[DataHead-len(head):], head)
	return DataHead - len(head)
}

// dataKey is the payload of a data message up to the data's own head.
const dataKey = "\xa1\x64" + dataField

// dataKeyLong is how JavaScript clients write it.
const dataKeyLong = "\xb9\x00\x01\x64" + dataField

// byteTag is the tag that they put before bytes: 64, a typed array of uint8.
const byteTag = "\xd8\x40"

// DataOf returns the data of a data message. In the forms that senders use it
// shares the envelope's payload and costs next to nothing; in any other form that
// the protocol allows it decodes as Decode does. Either way it keeps little more
// alive than itself. The error is a *PayloadError.
func DataOf(e Envelope) ([]byte, error) {
	if p, ok := plainData(e.Payload); ok {
		return alone(p, e.Payload), nil
	}
	var p []byte
	whole := entries{required(dataField, data(&p))}
	if err := whole.decode(&decoder{b: e.Payload}); err != nil {
		return nil, payloadError(e.Type, err)
	}
	return p, nil
}

// plainData takes the data out of a payload in a form that senders use.
func plainData(payload []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(payload, []byte(dataKey))
	if !ok {
		rest, ok = bytes.CutPrefix(payload, []byte(dataKeyLong))
	}
	if !ok {
		return nil, false
	}
	rest, _ = bytes.CutPrefix(rest, []byte(byteTag))
	d := decoder{b: rest}
	h, err := d.rawHead()
	if err != nil || h.major != majorBytes || h.indefinite() {
		return nil, false
	}
	p, err := d.take(h.arg)
	return p, err == nil
}
