package wire

import (
	"encoding/binary"
	"errors"

	"github.com/agentd-go/agentd/wire/frame"
)

// Two kinds of frame have fixed layouts in place of an envelope.

// RecordHead is the length of a raw record's own header: kind, flow, two reserved
// bytes and the offset. The data follows it in a frame with the flag Bulk alone.
const RecordHead = 12

// MaxRecordData is the most data that two peers can agree on for one record.
const MaxRecordData = 3 << 20

// Record is a piece of a raw bulk flow: the body of a frame with the flag Bulk.
type Record struct {
	Kind   BulkKind
	Flow   BulkFlow
	Offset uint64 // of the first byte, from the start of the flow
	Data   []byte // never empty
}

// The faults of raw records and leases.
var (
	ErrRecord = errors.New("malformed raw record")
	ErrLease  = errors.New("malformed lease record")
)

// PutRecordHead writes the header of a record into b, which must have RecordHead
// bytes.
func PutRecordHead(b []byte, kind BulkKind, flow BulkFlow, offset uint64) {
	_ = b[RecordHead-1]
	b[0], b[1], b[2], b[3] = byte(kind), byte(flow), 0, 0
	binary.BigEndian.PutUint64(b[4:], offset)
}

// AppendRecord appends a whole frame with the record to dst. For a record that no
// receiver accepts it returns dst unchanged, and ErrRecord.
func AppendRecord(dst []byte, id uint32, r Record) ([]byte, error) {
	if !r.valid() {
		return dst, ErrRecord
	}
	var head [frame.HeaderSize + RecordHead]byte
	frame.PutHeader(head[:], id, frame.Bulk, RecordHead+len(r.Data))
	PutRecordHead(head[frame.HeaderSize:], r.Kind, r.Flow, r.Offset)
	dst = append(dst, head[:]...)
	return append(dst, r.Data...), nil
}

// DecodeRecord reads the body of a frame with the flag Bulk. Data shares the body.
func DecodeRecord(body []byte) (Record, error) {
	if len(body) < RecordHead || body[2] != 0 || body[3] != 0 {
		return Record{}, ErrRecord
	}
	r := Record{
		Kind:   BulkKind(body[0]),
		Flow:   BulkFlow(body[1]),
		Offset: binary.BigEndian.Uint64(body[4:]),
		Data:   body[RecordHead:],
	}
	if !r.valid() {
		return Record{}, ErrRecord
	}
	return r, nil
}

func (r *Record) valid() bool {
	return (r.Kind == BulkFS || r.Kind == BulkTCP) &&
		(r.Flow == FlowHostToGuest || r.Flow == FlowGuestToHost) &&
		len(r.Data) > 0 && len(r.Data) <= MaxRecordData
}

// LeaseEvent is the event that a lease record reports.
type LeaseEvent uint8

// The events.
const (
	LeaseGranted  LeaseEvent = 1 + iota // from the host, before the client's first frame
	LeaseReleased                       // from the guest, after the client's last frame
)

// Lease binds a range of ids to one connection of one client. It is a frame with
// id 0 and no flags.
type Lease struct {
	Event                   LeaseEvent
	IDStart, IDEndExclusive uint32
	Incarnation             [16]byte // which connection; never all zero
}

// The layout of a lease in a frame's body: magic, format, event, two reserved
// bytes, the range, the incarnation.
const (
	leaseMagic  = "MSBL"
	leaseFormat = 1
	leaseSize   = 4 + 4 + 8 + 16
)

// IsLease reports whether a frame's body is a lease. An envelope never begins like one.
func IsLease(f frame.Frame) bool {
	return f.ID == 0 && f.Flags == 0 && len(f.Body) >= len(leaseMagic) && string(f.Body[:len(leaseMagic)]) == leaseMagic
}

// AppendLease appends a whole frame with the lease to dst.
func AppendLease(dst []byte, l Lease) []byte {
	var b [frame.HeaderSize + leaseSize]byte
	frame.PutHeader(b[:], 0, 0, leaseSize)
	body := b[frame.HeaderSize:]
	copy(body, leaseMagic)
	body[4], body[5] = leaseFormat, byte(l.Event)
	binary.BigEndian.PutUint32(body[8:], l.IDStart)
	binary.BigEndian.PutUint32(body[12:], l.IDEndExclusive)
	copy(body[16:], l.Incarnation[:])
	return append(dst, b[:]...)
}

// DecodeLease reads the body of a frame for which IsLease is true. It returns ErrLease
// for an unknown format or event, and if the incarnation is missing. The receiver must
// check whether the range belongs to a client.
func DecodeLease(body []byte) (Lease, error) {
	if len(body) != leaseSize || string(body[:4]) != leaseMagic || body[4] != leaseFormat || body[6] != 0 || body[7] != 0 {
		return Lease{}, ErrLease
	}
	l := Lease{
		Event:          LeaseEvent(body[5]),
		IDStart:        binary.BigEndian.Uint32(body[8:]),
		IDEndExclusive: binary.BigEndian.Uint32(body[12:]),
		Incarnation:    [16]byte(body[16:]),
	}
	if l.Event != LeaseGranted && l.Event != LeaseReleased || l.Incarnation == [16]byte{} {
		return Lease{}, ErrLease
	}
	return l, nil
}
