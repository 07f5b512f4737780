package session

import (
	"fmt"
	"sync"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/wire"
)

const (
	// windowBudget is what the windows of all flows into the guest come from: as
	// much as all input may hold in memory, so that what is granted fits there.
	windowBudget = InputBudget

	// windowRecords is how many of the longest records a window holds: enough for
	// either side not to wait for the other. Long records get the usual window, as in
	// the reference agents; for short ones less does, and is less to hold.
	windowRecords = 16
	smallWindow   = 1 << 20 // As long as a file system may take for a turn.

	// minWindow is granted also when the budget is used up: two of the smallest
	// records. What then does not fit memory waits on disk, as any input does.
	minWindow = 2 * flow.MinRecord
)

// windows are what flows into the guest are granted, together within a budget: each
// gets what suits its records, or half of what is left.
type windows struct {
	mu   sync.Mutex
	used int
}

func (w *windows) take(record int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	suits := min(flow.DefaultWindow, max(windowRecords*record, smallWindow))
	n := min(suits, max((windowBudget-w.used)/2, minWindow))
	w.used += n
	return n
}

func (w *windows) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}

// checkOffer says what is wrong with an offer. credit is what it must grant: some
// or nothing. A longer record than there can be is only an offer.
func checkOffer(what string, o *wire.BulkOffer, credit bool) error {
	switch {
	case o.Format != flow.Format:
		return WholeError(fmt.Sprintf("%s bulk offer has the unknown format %d", what, o.Format))
	case o.MaxRecordPayload < flow.MinRecord:
		return WholeError(fmt.Sprintf("%s bulk offer has records of %d bytes, less than %d", what, o.MaxRecordPayload, flow.MinRecord))
	case credit && o.GuestToHostCreditLimit == 0:
		return WholeError(what + " bulk offer must grant guest-to-host credit")
	case !credit && o.GuestToHostCreditLimit != 0:
		return WholeError(what + " bulk offer must not grant guest-to-host credit")
	case o.GuestToHostCreditLimit > flow.MaxWindow:
		return WholeError(fmt.Sprintf("%s bulk offer grants %d bytes, more than %d", what, o.GuestToHostCreditLimit, flow.MaxWindow))
	}
	return nil
}
