package session

import (
	"fmt"
	"sync"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/wire"
)

const (
	// windowBudget bounds the credit windows of all flows into the guest: as much as all
	// input may hold in memory, so that granted bytes fit there.
	windowBudget = InputBudget

	// windowRecords is how many of the longest records a window holds: enough that
	// neither side waits for the other. Flows of long records get the usual window, as in
	// the reference agents; flows of short ones need less memory.
	windowRecords = 16
	smallWindow   = 1 << 20 // The least without shortage: covers one slow write of a file system.

	// minWindow is granted also when the budget is used up: two of the smallest
	// records. Bytes that do not fit memory then wait on disk, as any input does.
	minWindow = 2 * flow.MinRecord
)

// windows allots the credit windows of the flows into the guest within a budget. A flow
// gets a window that suits its records, or half of the rest of the budget. With usual, for
// hosts that may count on the reference agents' window, that suits all records.
type windows struct {
	mu   sync.Mutex
	used int
}

func (w *windows) take(record int, usual bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	suits := flow.DefaultWindow
	if !usual {
		suits = min(suits, max(windowRecords*record, smallWindow))
	}
	n := min(suits, max((windowBudget-w.used)/2, minWindow))
	w.used += n
	return n
}

func (w *windows) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}

// checkOffer returns what is wrong with an offer, in the words of the reference agents. An
// offer must grant credit if the argument credit is true, and none otherwise. Record lengths
// above the largest are an upper bound, except with strict.
func checkOffer(what string, o *wire.BulkOffer, credit, strict bool) error {
	invalid := "invalid " + what + " bulk offer: "
	switch {
	case o.Format != flow.Format:
		return WholeError(fmt.Sprintf("%sunsupported bulk format %d", invalid, o.Format))
	case o.MaxRecordPayload < flow.MinRecord, strict && o.MaxRecordPayload > flow.MaxRecord:
		return WholeError(fmt.Sprintf("%sinvalid maximum bulk record payload %d", invalid, o.MaxRecordPayload))
	case credit && o.GuestToHostCreditLimit == 0:
		return WholeError(what + " bulk offer must grant guest-to-host credit")
	case !credit && o.GuestToHostCreditLimit != 0:
		return WholeError(what + " bulk offer must not grant guest-to-host credit")
	case o.GuestToHostCreditLimit > flow.MaxWindow:
		return WholeError(fmt.Sprintf("%sinvalid bulk credit: initial guest-to-host limit %d exceeds %d", invalid, o.GuestToHostCreditLimit, flow.MaxWindow))
	}
	return nil
}
