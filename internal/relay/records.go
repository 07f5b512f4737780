package relay

import (
	"fmt"
	"io"
	"sync"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

// records are the machine's second port (protocol section 14): raw records alone,
// each after the incarnation of the client that it is of. Between the two ports
// there is no order; clients put it together by the records' offsets.
type records struct {
	frames *frame.Reader
	writer *mux.Writer
	close  func() error
}

func newRecords(link io.ReadWriteCloser) *records {
	return &records{
		frames: frame.NewReader(link),
		writer: mux.NewWriter(link, 0),
		close:  sync.OnceValue(link.Close),
	}
}

// readRecords routes the guest's records until that link ends, and all with it.
func (r *Relay) readRecords() {
	defer func() { _ = r.closeLinks() }() // The one is of no use without the other.
	for {
		if err := r.nextRecord(); err != nil {
			r.end(fmt.Errorf("machine's link for records: %w", err))
			return
		}
	}
}

// nextRecord gives a record to its client. For one that has left it is dropped, and
// so is what is no record: neither has a place on this link.
func (r *Relay) nextRecord() error {
	var of Incarnation
	if err := r.records.frames.Raw(of[:]); err != nil {
		return err
	}
	f, whole, err := r.records.frames.NextWhole()
	if err != nil {
		return err
	}
	n, ok := frame.SlotOf(f.ID)
	if !ok || f.Flags != frame.Bulk {
		return nil
	}
	if c := r.incarnate(&r.slots[n], of); c != nil {
		c.give(whole) // What there may be of them is bounded by credit: nobody has to wait.
	}
	return nil
}

// incarnate returns the slot's client if it is this connection.
func (r *Relay) incarnate(s *slot, of Incarnation) *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.lease != of {
		return nil
	}
	return s.client
}

func (r *Relay) writeRecords() {
	if err := r.records.writer.Run(); err != nil {
		r.end(fmt.Errorf("machine's link for records: %w", err))
		_ = r.closeLinks()
	}
}
