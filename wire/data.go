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

	// MaxData is the number of data bytes that fit one frame of any type and
	// generation: a whole body without the longest prefix.
	MaxData = frame.MaxBody - (51 - frame.HeaderSize)
)

// tooMuchData has an element for every n that PutDataHead accepts.
type tooMuchData [MaxData + 1]struct{}

// PutDataHead makes a whole frame out of the data in b[DataHead:DataHead+n]. It writes
// the prefix directly before the data; the frame is b[start:DataHead+n]. The type must
// be one whose payload is only data: TypeExecStdin, TypeExecStdout, TypeExecStderr,
// TypeFSData or TypeTCPData. PutDataHead allocates nothing and copies no data. It
// panics, as a slice does, if n is more than MaxData or b is too short for the data.
func PutDataHead(b []byte, gen Generation, id uint32, t Type, n int) (start int) {
	_ = tooMuchData{}[n]
	_ = b[:DataHead+n]
	var room [DataHead]byte
	// The prefix must end where the data begins, and its length is known only when it
	// is complete. So it is built elsewhere and then moved.
	payload := len(dataKey) + headSize(n) + n
	head := appendEnvelopeHead(room[:frame.HeaderSize], gen, t)
	head = appendHead(head, majorBytes, uint64(payload))
	head = append(head, dataKey...)
	head = appendHead(head, majorBytes, uint64(n))
	frame.PutHeader(head, id, 0, len(head)-frame.HeaderSize+n)
	copy(b[DataHead-len(head):], head)
	return DataHead - len(head)
}

// dataKey is the payload of a data message before the data's own head.
const dataKey = "\xa1\x64" + dataField

// dataKeyLong is dataKey as JavaScript clients write it.
const dataKeyLong = "\xb9\x00\x01\x64" + dataField

// byteTag is the tag that JavaScript clients put before bytes: 64, a typed array of
// uint8.
const byteTag = "\xd8\x40"

// DataOf returns the data of a data message. For the forms that senders use, the data
// shares the memory of the envelope's payload, and DataOf allocates nothing. Other
// forms that the protocol allows are decoded as by Decode. In both cases the result
// keeps little other memory alive. The error is a *PayloadError.
func DataOf(e Envelope) ([]byte, error) {
	if p, ok := plainData(e.Payload); ok {
		return alone(p, e.Payload), nil
	}
	var p []byte
	d := decoder{b: e.Payload}
	entries{required(dataField, data(&p))}.decode(&d)
	if d.err != nil {
		return nil, payloadError(e.Type, d.err)
	}
	return p, nil
}

// plainData returns the data of a payload in one of the forms that senders use.
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
	h := d.rawHead()
	if d.err != nil || h.major != majorBytes || h.indefinite() {
		return nil, false
	}
	p := d.take(h.arg)
	return p, d.err == nil
}
