package session

import (
	"sync/atomic"

	"github.com/agentd-go/agentd/wire"
)

// Activity has the counters that tell an idle machine from one in use (protocol
// section 7.4), and the other numbers of the heartbeat. Counters only grow.
type Activity struct {
	seq, hostMessages, guestMessages atomic.Uint64

	Output, Files, TCP atomic.Uint64 // Bytes moved.

	Commands, FileStreams, TCPStreams atomic.Int64 // Numbers of running sessions.
}

// Counters is a reading of an Activity. The last three are the sessions that run at
// that moment.
type Counters struct {
	Seq, HostMessages, GuestMessages uint64

	ExecOutputBytes, FSBytes, TCPBytes uint64

	Commands, FSStreams, TCPStreams int64
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

// Touch counts a message of the host and returns the new sequence number.
func (a *Activity) Touch() uint64 {
	a.hostMessages.Add(1)
	return a.seq.Add(1)
}

// Counters reads all counters.
func (a *Activity) Counters() Counters {
	return Counters{
		Seq:             a.seq.Load(),
		HostMessages:    a.hostMessages.Load(),
		GuestMessages:   a.guestMessages.Load(),
		ExecOutputBytes: a.Output.Load(),
		FSBytes:         a.Files.Load(),
		TCPBytes:        a.TCP.Load(),
		Commands:        a.Commands.Load(),
		FSStreams:       a.FileStreams.Load(),
		TCPStreams:      a.TCPStreams.Load(),
	}
}
