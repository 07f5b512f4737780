package session

import (
	"errors"
	"sync"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// ErrCredit refuses a frame that exceeds the host's transport credit.
var ErrCredit = errors.New("host exceeded its transport admission credit")

const (
	// When so many bytes or frames were given back, the host is told at once; for less
	// it is told after creditDelay. Hosts may rely on these numbers.
	creditBytes  = 64 << 10
	creditFrames = 16
	creditDelay  = 5 * time.Millisecond
)

// A Credit counts the bytes and frames that the host has sent since the handshake, and
// those given back (protocol section 15.1). A nil Credit is for hosts without credit.
type Credit struct {
	due    chan struct{}
	stored bool // Input is given back when it has been stored.

	mu      sync.Mutex
	host    int                    // How many hosts have gone: see Restart.
	got     wire.TransportCounters // Received.
	back    wire.TransportCounters // Received and consumed.
	told    wire.TransportCounters // Consumed, and told to the host.
	timed   bool                   // A timer runs that makes it due.
	silent  bool                   // See Hush.
	arrived chan struct{}          // Closed, and replaced, with each frame of data.
}

// NewCredit returns the credit that a host begins with. With stored, the credit for input
// comes back when that is in an inbox.
func NewCredit(stored bool) *Credit {
	return &Credit{due: make(chan struct{}, 1), stored: stored, arrived: make(chan struct{})}
}

// Exact reports whether the credit for input comes back only when that has been read. Such
// a host may count on what a pipe to a command holds, so pipes keep their size.
func (c *Credit) Exact() bool { return c != nil && !c.stored }

// A Charge is the credit that one frame has used up. It is refunded once. For a host
// without credit it is empty.
type Charge struct {
	Over bool // The host has exceeded its credit.

	to    *Credit
	host  int
	bytes uint64
	bulk  bool
}

// Receive charges a frame of n bytes, of data (bulk) or of another kind.
func (c *Credit) Receive(n int, bulk bool) Charge {
	if c == nil {
		return Charge{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := Charge{to: c, host: c.host, bytes: uint64(n), bulk: bulk}
	add(&c.got, ch)
	if bulk {
		close(c.arrived)
		c.arrived = make(chan struct{})
		// Frames of other kinds are consumed as they come, so they have no limit in number.
		limit := c.limitLocked()
		ch.Over = c.got.BulkBytes > limit.BulkBytes || c.got.BulkFrames > limit.BulkFrames
	}
	return ch
}

func add(to *wire.TransportCounters, ch Charge) {
	if ch.bulk {
		to.BulkBytes, to.BulkFrames = to.BulkBytes+ch.bytes, to.BulkFrames+1
	} else {
		to.ControlBytes, to.ControlFrames = to.ControlBytes+ch.bytes, to.ControlFrames+1
	}
}

// Refund gives the charge back. The frame has been handled, and its bytes have been written
// or dropped.
func (ch Charge) Refund() {
	c := ch.to
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.host != c.host {
		return
	}
	add(&c.back, ch)
	bytes := c.back.ControlBytes + c.back.BulkBytes - c.told.ControlBytes - c.told.BulkBytes
	frames := c.back.ControlFrames + c.back.BulkFrames - c.told.ControlFrames - c.told.BulkFrames
	switch {
	case c.silent:
	case bytes >= creditBytes || frames >= creditFrames:
		c.makeDue()
	case !c.timed:
		c.timed = true
		time.AfterFunc(creditDelay, c.elapsed)
	}
}

// Payer returns Refund for an inbox, or nil if nothing is left to refund.
func (ch Charge) Payer() func() {
	switch {
	case ch.to == nil:
		return nil
	case ch.to.stored:
		ch.Refund()
		return nil
	}
	return ch.Refund
}

func (c *Credit) elapsed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = false
	c.makeDue()
}

func (c *Credit) makeDue() {
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// Due has a value when the host should be told its limits.
func (c *Credit) Due() <-chan struct{} { return c.due }

// Tell calls tell with the limits, if the host does not know them and Hush is not in force.
func (c *Credit) Tell(tell func(wire.TransportCounters)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent || c.told == c.back {
		return
	}
	c.told = c.back
	tell(c.limitLocked())
}

// Hush calls tell with the current limits, and stops Tell until Speak.
func (c *Credit) Hush(tell func(wire.TransportCounters)) { c.setSilent(true, tell) }

// Speak calls tell with the current limits, and lets Tell go on.
func (c *Credit) Speak(tell func(wire.TransportCounters)) { c.setSilent(false, tell) }

func (c *Credit) setSilent(silent bool, tell func(wire.TransportCounters)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent, c.told = silent, c.back
	tell(c.limitLocked())
}

// Restart begins to count for the next host, which begins with the first credit again. What
// the last host has sent is not given back any more.
func (c *Credit) Restart() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host++
	c.got, c.back, c.told = wire.TransportCounters{}, wire.TransportCounters{}, wire.TransportCounters{}
}

// Position returns what was received, and a channel that is closed when more data comes.
func (c *Credit) Position() (got wire.TransportCounters, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got, c.arrived
}

func (c *Credit) limitLocked() wire.TransportCounters {
	l := wire.FirstCredit()
	l.ControlBytes, l.ControlFrames = l.ControlBytes+c.back.ControlBytes, l.ControlFrames+c.back.ControlFrames
	l.BulkBytes, l.BulkFrames = l.BulkBytes+c.back.BulkBytes, l.BulkFrames+c.back.BulkFrames
	return l
}
