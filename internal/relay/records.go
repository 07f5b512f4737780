package relay

import (
	"fmt"
	"io"
	"sync"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

// records is the machine's second port (protocol section 14). It carries only raw
// records, each after the incarnation of its client. The two ports have no common
// order; clients restore the order by the records' offsets.
type records struct {
	frames *frame.Reader
	writer *mux.Writer
	close  func() error
	read   progress
}

func newRecords(link io.ReadWriteCloser) *records {
	return &records{
		frames: frame.NewReader(link),
		writer: mux.NewWriter(link, 0),
		close:  sync.OnceValue(link.Close),
		read:   progress{more: make(chan struct{}, 1)},
	}
}

// readRecords routes the guest's records until the link ends. Then the relay ends.
func (r *Relay) readRecords() {
	defer func() { _ = r.closeLinks() }() // One link is useless without the other.
	for {
		if err := r.nextRecord(); err != nil {
			r.end(fmt.Errorf("machine's link for records: %w", err))
			return
		}
	}
}

// nextRecord passes a record to its client. It drops records of clients that have left,
// and frames that are no records.
func (r *Relay) nextRecord() error {
	var of Incarnation
	if err := r.records.frames.Raw(of[:]); err != nil {
		return err
	}
	f, whole, err := r.records.frames.NextWhole()
	if err != nil {
		return err
	}
	defer r.records.read.add(len(of) + len(whole))
	n, ok := frame.SlotOf(f.ID)
	if !ok || f.Flags != frame.Bulk {
		return nil
	}
	if c := r.incarnate(&r.slots[n], of); c != nil {
		c.give(whole) // Credit bounds the records, so give never needs to wait.
	}
	return nil
}

// incarnate returns the slot's client if it is the connection that of identifies.
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
