package client

import (
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// bulkFrom is the least size for which raw records pay off: a flow takes two messages
	// more, and a write waits for the agent's acceptance.
	bulkFrom = 256 << 10

	// bulkRecord is the length of the client's records: no other frame can pass one that
	// has begun to leave, as with fileChunk.
	bulkRecord = 128 << 10

	// bulkWindow is how many unread bytes the agent may send, as much as reference hosts
	// grant. An emulated machine with one processor that sends at full speed may need 20 ms
	// to receive a grant; it sends 4 MiB in that time. Half of the window is left when the
	// client grants more.
	bulkWindow = flow.DefaultWindow

	// bulkPiece is the most of a file that one flow moves. The round trip of a flow costs
	// nothing beside so many bytes, and callers that read and write in alternation end it
	// early.
	bulkPiece = 64 << 20
)

// Bulk says how the contents of large files and of connections are moved. The zero
// value suits most.
//
// Agents of generation 8 can send and take raw records, with credit for each file and
// connection: unread bytes of one then wait in the guest, and block nothing else.
type Bulk struct {
	Off    bool // Use data messages, as with older agents.
	Record int  // The longest record in bytes, 16 KiB to 3 MiB; 0 is 128 KiB.
	Window int  // How many unread bytes an agent may send, up to 32 MiB; 0 is 8 MiB.
}

// SetBulk says how transfers that begin from now on move their data. Values outside
// their range are moved into it.
func (c *Client) SetBulk(b Bulk) { c.bulk.Store(&b) }

// offer is the part of a request that offers raw records: for size bytes towards
// us, or 0 for bytes the other way. It is nil if the session shall use messages.
func (c *Client) offer(size int64) *wire.BulkOffer {
	b := Bulk{}
	if set := c.bulk.Load(); set != nil {
		b = *set
	}
	if b.Off || c.generation < wire.BulkSince {
		return nil
	}
	o := &wire.BulkOffer{Format: flow.Format, MaxRecordPayload: uint32(clamp(b.Record, bulkRecord, flow.MinRecord, flow.MaxRecord))}
	if size > 0 {
		o.GuestToHostCreditLimit = uint64(min(size, int64(clamp(b.Window, bulkWindow, 1, flow.MaxWindow))))
	}
	return o
}

func clamp(n, usual, least, most int) int {
	if n == 0 {
		return usual
	}
	return max(least, min(n, most))
}

// isFlow reports whether a message is about a raw flow.
func isFlow(t wire.Type) bool {
	return t == wire.TypeBulkAccepted || t == wire.TypeBulkCredit || t == wire.TypeBulkFinish || t == wire.TypeBulkCancel
}

// A carrier is a receiver whose data may come as raw records.
type carrier interface {
	receiver
	record(r wire.Record) error
	behind() bool // See [flow.Receiver].
}

// deliverRecord gives a raw record to its receiver.
func deliverRecord(r receiver, f frame.Frame) error {
	to, ok := r.(carrier)
	if !ok {
		return &FrameError{Err: errUnexpected}
	}
	record, err := wire.DecodeRecord(f.Body)
	if err == nil {
		err = to.record(record)
	}
	if err != nil {
		return &FrameError{Err: err}
	}
	return nil
}

// checkAccepted checks an agent's acceptance against the offer.
func checkAccepted(m *wire.BulkAccepted, o *wire.BulkOffer, kind wire.BulkKind, flows wire.BulkFlow) error {
	if m.Kind != kind || m.Flows != flows || m.Format != o.Format || m.MaxRecordPayload == 0 ||
		m.MaxRecordPayload > o.MaxRecordPayload || m.GuestToHostCreditLimit != o.GuestToHostCreditLimit {
		return fmt.Errorf("bulk offer %+v was accepted as %+v", *o, *m)
	}
	return nil
}

// flows are the two directions of a session's bytes. A direction that the session does not
// have is of messages, and none comes.
type flows struct {
	c     *Client
	id    uint32
	kind  wire.BulkKind
	offer *wire.BulkOffer // nil has data messages.
	both  wire.BulkFlow   // The directions that the offer is for.

	from flow.Receiver
	to   flow.Sender
}

// init decides by the offer how the bytes move. The message type and the last message
// are those of data to the guest.
func (f *flows) init(c *Client, kind wire.BulkKind, directions wire.BulkFlow, o *wire.BulkOffer, data wire.Type, last wire.Message) {
	f.c, f.kind, f.both, f.offer = c, kind, directions, o
	f.from, f.to = flow.ReceiveMessages(), flow.SendMessages(own, data, last)
	if o == nil {
		return
	}
	if directions&wire.FlowGuestToHost != 0 {
		f.from = flow.ReceiveRecords(kind, wire.FlowGuestToHost, func(m wire.Message) { c.farewell(f.id, m) })
	}
	if directions&wire.FlowHostToGuest != 0 {
		f.to = flow.SendRecords(kind, wire.FlowHostToGuest, nil)
	}
	if c.twoPorts() {
		f.from.Expect(int(o.MaxRecordPayload), o.GuestToHostCreditLimit)
	}
}

func (f *flows) behind() bool { return f.from.Behind() }

// receiveFlow takes a message about the flows.
func (f *flows) receiveFlow(e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	if f.offer == nil {
		return errUnexpected
	}
	switch m := m.(type) {
	case *wire.BulkAccepted:
		if err := checkAccepted(m, f.offer, f.kind, f.both); err != nil {
			return err
		}
		record := int(m.MaxRecordPayload)
		return firstOf(f.from.Open(record, m.GuestToHostCreditLimit), f.to.Open(record, m.HostToGuestCreditLimit))
	case *wire.BulkCredit:
		return f.to.Credit(m)
	case *wire.BulkFinish:
		return f.from.Finish(m)
	case *wire.BulkCancel:
		return nil // The terminal frame says it too.
	}
	return errUnexpected
}

// errOver is why a piece was not sent: the agent has ended the session.
var errOver = errors.New("the flow has ended")

// piece waits for room and sends some of data. It sends from buf, in which data lies after
// the room for a head, and which the link owns then. It sends a copy if buf is nil or if
// only a part can be sent. If taken is 0 without an error the caller calls again, unless
// stop is closed.
func (f *flows) piece(out *mux.Outbox, buf, data []byte, stop <-chan struct{}) (taken int, err error) {
	n, changed, err := f.to.Room(len(data))
	if err != nil {
		return 0, err
	}
	if n == 0 {
		select {
		case <-changed:
		case <-stop:
		}
		return 0, nil
	}
	if buf == nil || n < len(data) {
		buf = make([]byte, wire.DataHead+n)
		copy(buf[wire.DataHead:], data)
	}
	f.to.Take(n) // Credit for it may come as soon as it is queued.
	queued, err := out.SendUntil(stop, f.to.Frame(buf, f.id, n))
	if !queued || err != nil {
		f.to.Untake(n)
		return 0, err
	}
	return n, nil
}
