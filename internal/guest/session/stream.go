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

// A Carrier is a session whose data can move as raw records (protocol section 12). A
// violation of a flow's rules ends its session and nothing else.
type Carrier interface {
	Session
	// Record takes a piece of the flow into the guest. See Session.Data for the charge.
	Record(r wire.Record, c Charge)
	// Break ends the session with a text. With tell, core.bulk.cancel says first that
	// the host broke the protocol.
	Break(why string, tell bool)
}

// A flowError ends a session by a text that gets no prefix.
type flowError struct {
	text string
	tell bool // Send core.bulk.cancel first.
}

func (e *flowError) Error() string { return e.text }

// Moves describes the bytes of a [Stream] and the words of its error texts. Texts that the
// reference agents have are the same here (protocol section 12.5).
type Moves struct {
	Kind  wire.BulkKind
	Flows wire.BulkFlow  // The directions that the session has.
	Data  wire.Type      // Type of the data messages.
	Last  wire.Message   // Ends the data messages to the host; nil if no message does.
	Count *atomic.Uint64 // Counts bytes.

	Record int    // The most data of one record.
	Want   uint64 // The most bytes that may come.

	Name  string // The session in error texts.
	Offer string // Its offer in error texts.
	Stray string // The text for a record that no accepted offer allows.
	Full  error  // The error of an inbox that is full.

	Stop func(error) // Ends the session. Only the first reason counts.
}

// A Stream is a session that moves bytes, by messages or raw records.
type Stream struct {
	*Base
	In *mux.Inbox // Bytes from the host; nil if the session only sends.
	To flow.Sender

	moves   Moves
	from    flow.Receiver
	spares  *frame.Spares // Gets back the memory of data messages; nil for records.
	accept  wire.BulkAccepted
	window  int        // 0 after it was given back.
	arrival sync.Mutex // Makes a record's check and its queueing one step: a finish may come by another port.
}

// NoOffer is the text for a record to a session that moves no records.
const NoOffer = "raw bulk is invalid without an accepted offer"

// into reports whether the host sends bytes.
func (s *Stream) into() bool { return s.moves.Flows&wire.FlowHostToGuest != 0 }

// NewStream decides how the bytes move: by records if the request offers that, else by
// messages. The error says what is wrong with the offer; the stream is valid also then.
func NewStream(base *Base, moves Moves, o *wire.BulkOffer) (*Stream, error) {
	s := &Stream{
		Base: base, moves: moves, spares: base.Host.Spares,
		from: flow.ReceiveMessages(), To: flow.SendMessages(base.Host.Generation, moves.Data, moves.Last),
	}
	memory, err := InputMemory, error(nil)
	if o != nil {
		if err = checkOffer(moves.Offer, o, moves.Flows&wire.FlowGuestToHost != 0, base.Host.Credit.Exact()); err == nil {
			memory = s.records(o)
		}
	}
	if s.into() {
		s.In = s.Host.Inbox(memory)
	}
	return s, err
}

// records accepts an offer. It returns the memory that the inbox needs. Two records fit a
// window, so that the sender of one never waits for credit of less than a record.
func (s *Stream) records(o *wire.BulkOffer) (memory int) {
	record := int(min(o.MaxRecordPayload, uint32(s.moves.Record)))
	s.spares = nil
	if s.into() {
		s.window = s.Host.windows.take(record, s.Host.Credit.Exact())
		record = min(record, s.window/2)
		s.from = flow.ReceiveRecords(s.moves.Kind, wire.FlowHostToGuest, s.Put)
	}
	var before []byte
	if s.Host.Records != nil {
		of := s.Host.Incarnation(s.ID)
		before, s.bulk = of[:], s.Host.Records.Outbox(0)
	}
	if s.moves.Flows&wire.FlowGuestToHost != 0 {
		s.To = flow.SendRecords(s.moves.Kind, wire.FlowGuestToHost, before)
		_ = s.To.Open(record, o.GuestToHostCreditLimit) // Fails only a second time.
	}
	s.accept = wire.BulkAccepted{
		Kind: s.moves.Kind, Flows: s.moves.Flows, Format: flow.Format, MaxRecordPayload: uint32(record),
		HostToGuestCreditLimit: uint64(s.window), GuestToHostCreditLimit: o.GuestToHostCreditLimit,
	}
	return max(s.window, InputMemory)
}

// Begin lets the bytes move. It tells the host that an offer is accepted, if there was one.
func (s *Stream) Begin() {
	if s.accept.Format == 0 {
		return
	}
	_ = s.from.Open(int(s.accept.MaxRecordPayload), s.accept.HostToGuestCreditLimit) // Fails only a second time.
	s.Put(&s.accept)
}

// ReturnWindow gives the credit window of an accepted offer back to the budget.
func (s *Stream) ReturnWindow() {
	s.arrival.Lock()
	defer s.arrival.Unlock()
	s.Host.windows.give(s.window)
	s.window = 0
}

// kindName is the stream's kind in error texts.
func (s *Stream) kindName() string {
	if s.moves.Kind == wire.BulkFS {
		return "filesystem"
	}
	return "TCP"
}

// Messages reports whether data, or its end, may come as a message. If not, it ends the
// session.
func (s *Stream) Messages(what string) bool {
	if s.from.Message() == nil {
		return true
	}
	s.Break("CBOR "+s.kindName()+" "+what+" is invalid after raw bulk acceptance", s.Host.Generation < wire.BarrierSince)
	return false
}

// Data takes the bytes of a data message.
func (s *Stream) Data(t wire.Type, p []byte, c Charge) {
	if t != s.moves.Data || len(p) == 0 || !s.Messages("data") {
		c.Refund()
		return
	}
	s.keep(p, c)
	if s.In != nil { // A stream that only sends drops inbound data.
		s.In.Pace()
	}
}

func (s *Stream) keep(p []byte, c Charge) {
	if c.Over {
		c.Refund()
		s.moves.Stop(WholeError(ErrCredit.Error()))
		return
	}
	if s.In == nil {
		c.Refund()
		return
	}
	err := s.In.PushFor(p, c.Payer())
	if err == nil || errors.Is(err, mux.ErrClosed) {
		return // The input has ended, or the session has failed: ignore the bytes.
	}
	if errors.Is(err, mux.ErrFull) {
		err = s.moves.Full
	}
	s.moves.Stop(err)
}

// cancels reports whether core.bulk.cancel comes before the terminal frame when the host
// breaks a rule of an accepted flow. The reference agents of generation 9 send none for
// connections.
func (s *Stream) cancels() bool {
	return s.moves.Kind != wire.BulkTCP || s.Host.Generation < wire.BarrierSince
}

// arrive does one step of the flow into the guest. It breaks the session if the step
// violates the protocol, and ends the input when all of it has come.
func (s *Stream) arrive(what string, step func() error) {
	s.arrival.Lock()
	defer s.arrival.Unlock()
	err := step()
	switch {
	case errors.Is(err, flow.ErrMisplaced):
		s.Break(s.moves.Stray, true)
	case err != nil:
		s.Break(fmt.Sprintf("invalid %s bulk %s: %v", s.kindName(), what, err), s.cancels())
	case s.from.Whole():
		s.In.End()
	}
}

// Record takes the bytes of a raw record.
func (s *Stream) Record(r wire.Record, c Charge) {
	kept := false
	defer func() {
		if !kept {
			c.Refund()
		}
	}()
	s.arrive("record", func() error {
		received, err := s.from.Record(r)
		if err == nil && received > s.moves.Want {
			s.Break(fmt.Sprintf("write length mismatch: expected %d, received at least %d", s.moves.Want, received), false)
		} else if err == nil {
			kept = true
			s.keep(r.Data, c)
		}
		return err
	})
}

// Message handles a message about a flow.
func (s *Stream) Message(m wire.Message) {
	switch m := m.(type) {
	case *wire.BulkFinish:
		s.arrive("finish", func() error { return s.from.Finish(m) })
	case *wire.BulkCancel:
		s.Break(m.Message, false)
	case *wire.BulkCredit:
		err := s.To.Credit(m)
		if misplaced := errors.Is(err, flow.ErrMisplaced); misplaced && s.accept.Format != 0 && !s.cancels() {
			s.Break("invalid TCP bulk credit: bulk kind or flow does not match the correlation", false)
		} else if misplaced {
			s.Break(s.moves.Name+" received credit for another kind or flow", true)
		} else if err != nil {
			s.Break(fmt.Sprintf("invalid %s bulk credit: %v", s.kindName(), err), false)
		}
	}
}

// Break ends the session with a text, which may be a host's.
func (s *Stream) Break(why string, tell bool) { s.moves.Stop(&flowError{Repeated(why), tell}) }

// Consumed says that the first n bytes of p, which came from In, have been written. The
// caller does not use p afterwards.
func (s *Stream) Consumed(p []byte, n int) {
	s.moves.Count.Add(uint64(n))
	s.from.Consumed(n)
	s.In.Took(len(p))
	s.spares.Give(p)
}

// Pump returns a pump that sends the bytes of a source within the host's credit.
func (s *Stream) Pump(from Source) *Pump {
	return &Pump{Base: s.Base, kind: s.moves.Data, from: credited{from, s.To}, to: s.To, count: s.moves.Count}
}

// Farewell sends core.bulk.cancel before the terminal frame of a session that ends with
// err, if the host broke the protocol.
func (s *Stream) Farewell(err error) {
	if broken, ok := errors.AsType[*flowError](err); ok && broken.tell {
		s.Put(&wire.BulkCancel{Kind: s.moves.Kind, Reason: wire.CancelProtocol, Message: broken.text})
	}
}

// A credited source gives no more bytes than the host has granted.
type credited struct {
	Source
	to flow.Sender
}

// Read waits for bytes and for credit. The end of the source needs no credit: without
// credit Read reads one byte to detect it, and holds that byte until credit comes.
func (c credited) Read(b []byte) (int, error) {
	room, _, err := c.to.Room(len(b))
	switch {
	case err != nil:
		return 0, err
	case room == 0:
		return c.readOne(b)
	}
	n, err := c.Source.Read(b[:room])
	c.to.Take(n)
	return n, err
}

func (c credited) readOne(b []byte) (int, error) {
	n, ended := c.Source.Read(b[:1])
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
		more, ended = c.Source.Try(b[1:room])
		n += more
	}
	c.to.Take(n)
	return n, ended
}

// Try reads the bytes that are there and that the credit covers.
func (c credited) Try(b []byte) (int, error) {
	room, _, err := c.to.Room(len(b))
	if room == 0 {
		return 0, err
	}
	n, err := c.Source.Try(b[:room])
	c.to.Take(n)
	return n, err
}
