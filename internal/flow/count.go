package flow

import (
	"errors"
	"fmt"
)

// The bounds of what two sides can agree on (protocol section 12.1).
const (
	MinRecord = 16 << 10 // The smallest bound for a record's data,
	MaxRecord = 3 << 20  // and the largest.

	DefaultWindow = 8 << 20  // What a receiver grants beyond what it has consumed.
	MaxWindow     = 32 << 20 // The most that it may.

	Format = 1 // Of records; there is no other.
)

// Errors of credit, in the words of the reference agents where those are known.
var (
	errAdmitted = errors.New("invalid bulk credit: peer consumed bytes the sender has not admitted")
	errBack     = errors.New("invalid bulk credit: peer moved its credit back")
	errLimit    = errors.New("bulk record exceeds the granted credit")
)

// A sendCount counts the bytes of a flow where they are sent.
type sendCount struct {
	record                int // The longest record's data.
	sent, consumed, limit uint64
}

// newSendCount allows limit bytes in records of at most record.
func newSendCount(record int, limit uint64) sendCount { return sendCount{record: record, limit: limit} }

// Room is how many bytes the next record may have, 0 without credit.
func (s *sendCount) Room() int { return int(min(uint64(s.record), s.limit-s.sent)) }

// Sent is how many bytes were sent: the offset of the next record and, in the end,
// the length of the flow.
func (s *sendCount) Sent() uint64 { return s.sent }

// Take counts n bytes, which Room must have allowed, as sent.
func (s *sendCount) Take(n int) { s.sent += uint64(n) }

// Untake takes the last n bytes back that Take has counted: they did not leave.
func (s *sendCount) Untake(n int) { s.sent -= uint64(n) }

// Credit moves the limit as the receiver says. A repeat changes nothing.
func (s *sendCount) Credit(consumed, limit uint64) error {
	switch {
	case consumed > s.sent:
		return errAdmitted
	case consumed < s.consumed || limit < s.limit:
		return errBack
	case limit-consumed > MaxWindow:
		return fmt.Errorf("invalid bulk credit: more than %d bytes beyond what was consumed", MaxWindow)
	}
	s.consumed, s.limit = consumed, limit
	return nil
}

// A receiveCount counts the bytes of a flow where they arrive.
type receiveCount struct {
	record                    int
	window                    uint64
	received, consumed, limit uint64
	finished                  bool
	final                     uint64
}

// newReceiveCount has granted a window, in records of at most record.
func newReceiveCount(record int, window uint64) receiveCount {
	return receiveCount{record: record, window: window, limit: window}
}

// Limit is how far the sender may go.
func (r *receiveCount) Limit() uint64 { return r.limit }

// Received is how many bytes have come.
func (r *receiveCount) Received() uint64 { return r.received }

// Record judges a record, and counts it as received if there is no error.
func (r *receiveCount) Record(offset uint64, n int) error {
	end := r.received + uint64(n)
	switch {
	case offset != r.received:
		return fmt.Errorf("bulk record offset %d does not match expected %d", offset, r.received)
	case n > r.record:
		return fmt.Errorf("invalid bulk record payload length %d (max %d)", n, r.record)
	case r.finished && end > r.final:
		return fmt.Errorf("bulk record ends at %d behind the finish offset %d", end, r.final)
	case end > r.limit:
		return errLimit
	}
	r.received = end
	return nil
}

// Finish sets the final length of the flow. It may be repeated with the same length.
func (r *receiveCount) Finish(final uint64) error {
	switch {
	case r.finished && final != r.final:
		return fmt.Errorf("bulk finish offset %d does not match the earlier %d", final, r.final)
	case final < r.received:
		return fmt.Errorf("bulk finish offset %d does not match expected %d", final, r.received)
	}
	r.finished, r.final = true, final
	return nil
}

// Behind reports whether the sender has finished, and something is still to come.
func (r *receiveCount) Behind() bool { return r.finished && r.received < r.final }

// Whole reports whether everything has come that will.
func (r *receiveCount) Whole() bool { return r.finished && r.received == r.final }

// Consume counts n bytes as consumed. It reports whether the sender is now to be
// granted more, by Grant: half of the window is used up, and the flow goes beyond
// what it was granted, as far as is known.
func (r *receiveCount) Consume(n int) (due bool) {
	r.consumed += uint64(n)
	if r.finished && r.final <= r.limit {
		return false
	}
	return r.limit-r.consumed <= r.window/2
}

// Grant raises the limit and returns the credit to send.
func (r *receiveCount) Grant() (consumed, limit uint64) {
	r.limit = r.consumed + r.window
	return r.consumed, r.limit
}
