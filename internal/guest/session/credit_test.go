package session_test

import (
	"testing"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/wire"
)

// The next host begins with the first credit, and gets nothing back for what the last one has
// sent.
func TestCreditRestart(t *testing.T) {
	c := session.NewCredit(false)
	const frame = 1000
	old := c.Receive(frame, true)
	c.Receive(frame, true).Refund()
	c.Restart()
	old.Refund()
	if got, _ := c.Position(); got != (wire.TransportCounters{}) {
		t.Errorf("received %+v", got)
	}
	limit := func() (l wire.TransportCounters) {
		c.Speak(func(now wire.TransportCounters) { l = now })
		return l
	}
	first := wire.FirstCredit()
	if got := limit(); got != first {
		t.Errorf("limit %+v, want %+v", got, first)
	}
	for range first.BulkFrames {
		if c.Receive(1, true).Over {
			t.Fatal("the first credit is exceeded")
		}
	}
	if !c.Receive(1, true).Over {
		t.Error("the first credit has no bound")
	}
	(*session.Credit)(nil).Restart() // Of hosts without credit.
}
