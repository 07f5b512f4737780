package session

import (
	"sync/atomic"

	"github.com/agentd-go/agentd/wire"
)

// Activity counts what tells an idle machine from one in use (protocol section
// 7.4). All counters only grow.
type Activity struct {
	seq, hostMessages, guestMessages, output atomic.Uint64
}

// Counters is a reading of an Activity.
type Counters struct {
	Seq, HostMessages, GuestMessages, ExecOutputBytes uint64
}

// Received counts a message of the host, unless it only maintains the link.
func (a *Activity) Received(t wire.Type) {
	if t == wire.TypeClockSync || t == wire.TypePing || t == wire.TypeTouch {
		return
	}
	a.hostMessages.Add(1)
	a.seq.Add(1)
}

// Sent counts a message to the host, unless it only answers maintenance.
func (a *Activity) Sent(t wire.Type) {
	if t == wire.TypePong || t == wire.TypeTouched || t == wire.TypeProtocolError {
		return
	}
	a.guestMessages.Add(1)
	a.seq.Add(1)
}

// Touch counts once and returns the number that this made.
func (a *Activity) Touch() uint64 {
	a.hostMessages.Add(1)
	return a.seq.Add(1)
}

func (a *Activity) outputBytes(n int) { a.output.Add(uint64(n)) }

// Counters reads all counters.
func (a *Activity) Counters() Counters {
	return Counters{
		Seq:             a.seq.Load(),
		HostMessages:    a.hostMessages.Load(),
		GuestMessages:   a.guestMessages.Load(),
		ExecOutputBytes: a.output.Load(),
	}
}
