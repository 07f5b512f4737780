package session

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A Carrier is a session whose data can move as raw records (protocol section 12).
// What is wrong with a flow ends its session and nothing else.
type Carrier interface {
	Session
	// Record takes a piece of the flow into the guest.
	Record(wire.Record)
	// Flow acts on a message about a flow.
	Flow(wire.Message)
	// Break ends the session with a text; tell says by core.bulk.cancel first that
	// the host broke the protocol.
	Break(why string, tell bool)
}

// A flowError ends a session by a text that gets no prefix.
type flowError struct {
	text string
	tell bool // The host is told by core.bulk.cancel first.
}

func (e *flowError) Error() string { return e.text }

// A stream is a session that moves bytes, by messages or raw records. The texts are the
// reference agents', where they have one (protocol section 12.5).
type stream struct {
	*base
	kind  wire.BulkKind
	flows wire.BulkFlow // The directions that the session has.
	data  wire.Type     // Of data messages.
	count *atomic.Uint64

	name    string // What texts call the session,
	stray   string // and say of a record that no offer has allowed.
	stop    func(error)
	in      *mux.Inbox // What the host has sent, for sessions that receive.
	want    uint64     // How many bytes may come.
	full    error      // Says that more wait than may.
	from    flow.Receiver
	to      flow.Sender
	spares  *frame.Spares // What gets the memory of data messages; nil for records.
	accept  wire.BulkAccepted
	window  int        // 0 when it has been given back.
	arrival sync.Mutex // A finish, which may come by another port, must not be between a record and its keeping.
}

// noOffer is what is wrong with a record of a session that moves none.
const noOffer = "raw bulk is invalid without an accepted offer"

// into reports whether the host sends bytes.
func (s *stream) into() bool { return s.flows&wire.FlowHostToGuest != 0 }

// open decides once how the bytes move: by records, if the request offers that, or by
// messages. last is the message that ends those out of the guest.
func (s *stream) open(what string, o *wire.BulkOffer, record int, last wire.Message) error {
	s.from, s.to = flow.ReceiveMessages(), flow.SendMessages(s.host.Generation, s.data, last)
	memory, err := stdinMemory, error(nil)
	if s.spares = s.host.Spares; o != nil {
		if err = checkOffer(what, o, s.flows&wire.FlowGuestToHost != 0); err == nil {
			memory = s.records(o, record)
		}
	}
	if s.into() {
		s.in = s.host.inbox(memory)
	}
	return err
}

// records takes an offer up, in records of at most so many bytes. It returns what the
// inbox needs. Two records fit a window, or a flow could stand still half a record short.
func (s *stream) records(o *wire.BulkOffer, record int) (memory int) {
	record = min(int(min(o.MaxRecordPayload, flow.MaxRecord)), record)
	s.spares = nil
	if s.into() {
		s.window = s.host.windows.take(record)
		record = min(record, s.window/2)
		s.from = flow.ReceiveRecords(s.kind, wire.FlowHostToGuest, s.put)
	}
	var before []byte
	if s.host.Records != nil {
		of := s.host.Incarnation(s.id)
		before, s.bulk = of[:], s.host.Records.Outbox(0)
	}
	if s.flows&wire.FlowGuestToHost != 0 {
		s.to = flow.SendRecords(s.kind, wire.FlowGuestToHost, before)
		_ = s.to.Open(record, o.GuestToHostCreditLimit) // The first time.
	}
	s.accept = wire.BulkAccepted{
		Kind: s.kind, Flows: s.flows, Format: flow.Format, MaxRecordPayload: uint32(record),
		HostToGuestCreditLimit: uint64(s.window), GuestToHostCreditLimit: o.GuestToHostCreditLimit,
	}
	return max(s.window, stdinMemory)
}

// begin lets the bytes move: it says that an offer is taken up, if there was one.
func (s *stream) begin() {
	if s.accept.Format == 0 {
		return
	}
	_ = s.from.Open(int(s.accept.MaxRecordPayload), s.accept.HostToGuestCreditLimit) // The first time.
	s.put(&s.accept)
}

// close gives the window back.
func (s *stream) close() {
	s.arrival.Lock()
	defer s.arrival.Unlock()
	s.host.windows.give(s.window)
	s.window = 0
}

// kindName is what texts call a kind.
func (s *stream) kindName() string {
	if s.kind == wire.BulkFS {
		return "filesystem"
	}
	return "TCP"
}

// message reports whether a message may carry data, or end it; else it ends the session.
func (s *stream) message(what string) bool {
	if s.from.Message() == nil {
		return true
	}
	s.Break("CBOR "+s.kindName()+" "+what+" is invalid after raw bulk acceptance", true)
	return false
}

// Data takes bytes that came as a message.
func (s *stream) Data(p []byte) {
	if s.message("data") {
		s.keep(p)
		s.in.Pace()
	}
}

func (s *stream) keep(p []byte) {
	err := s.in.Push(p)
	if err == nil || errors.Is(err, mux.ErrClosed) {
		return // Bytes after the end, or after a failure that was told, are nobody's.
	}
	if errors.Is(err, mux.ErrFull) {
		err = s.full
	}
	s.stop(err)
}

// arrive does one step of the flow into the guest, and breaks the session if that is a
// slip. It ends the input when all of it has come.
func (s *stream) arrive(what string, step func() error) {
	s.arrival.Lock()
	defer s.arrival.Unlock()
	err := step()
	switch {
	case errors.Is(err, flow.ErrMisplaced):
		s.Break(s.stray, true)
	case err != nil:
		s.Break(fmt.Sprintf("invalid %s bulk %s: %v", s.kindName(), what, err), true)
	case s.from.Whole():
		s.in.End()
	}
}

// Record takes bytes that came as a record.
func (s *stream) Record(r wire.Record) {
	s.arrive("record", func() error {
		received, err := s.from.Record(r)
		if err == nil && received > s.want {
			s.Break(fmt.Sprintf("write length mismatch: expected %d, received at least %d", s.want, received), false)
		} else if err == nil {
			s.keep(r.Data)
		}
		return err
	})
}

// Flow acts on a message about a flow.
func (s *stream) Flow(m wire.Message) {
	switch m := m.(type) {
	case *wire.BulkFinish:
		s.arrive("finish", func() error { return s.from.Finish(m) })
	case *wire.BulkCancel:
		s.Break(m.Message, false)
	case *wire.BulkCredit:
		err := s.to.Credit(m)
		if errors.Is(err, flow.ErrMisplaced) {
			s.Break(s.name+" received credit for another kind or flow", true)
		} else if err != nil {
			s.Break(fmt.Sprintf("invalid %s bulk credit: %v", s.kindName(), err), false)
		}
	}
}

// Break ends the session with a text, which may be a host's.
func (s *stream) Break(why string, tell bool) { s.stop(&flowError{repeated(why), tell}) }

// consumed notes that the first n bytes of p, which came from in, are where they
// belong, and nobody uses p any more.
func (s *stream) consumed(p []byte, n int) {
	s.from.Consumed(n)
	s.spares.Give(p)
}

// pump is what sends the bytes of a source.
func (s *stream) pump(from source) *pump {
	return &pump{base: s.base, kind: s.data, from: credited{from, s.to}, to: s.to, count: s.count}
}

// farewell says what precedes the terminal frame of a session that ends with err.
func (s *stream) farewell(err error) {
	if broken, ok := errors.AsType[*flowError](err); ok && broken.tell {
		s.put(&wire.BulkCancel{Kind: s.kind, Reason: wire.CancelProtocol, Message: broken.text})
	}
}

// A credited source gives what may be sent.
type credited struct {
	source
	to flow.Sender
}

// Read waits for bytes and for credit. The end of the source needs no credit: so one
// byte is read without, and waits here for its own.
func (c credited) Read(b []byte) (int, error) {
	room, _, err := c.to.Room(len(b))
	switch {
	case err != nil:
		return 0, err
	case room == 0:
		return c.readOne(b)
	}
	n, err := c.source.Read(b[:room])
	c.to.Take(n)
	return n, err
}

func (c credited) readOne(b []byte) (int, error) {
	n, ended := c.source.Read(b[:1])
	if n == 0 {
		return 0, ended
	}
	room, changed, err := c.to.Room(len(b))
	for ; room == 0 && err == nil; room, changed, err = c.to.Room(len(b)) {
		<-changed
	}
	if err != nil {
		return 0, err
	}
	if ended == nil {
		var more int
		more, ended = c.source.Try(b[1:room])
		n += more
	}
	c.to.Take(n)
	return n, ended
}

// Try reads what is there and may be sent.
func (c credited) Try(b []byte) (int, error) {
	room, _, err := c.to.Room(len(b))
	if room == 0 {
		return 0, err
	}
	n, err := c.source.Try(b[:room])
	c.to.Take(n)
	return n, err
}
