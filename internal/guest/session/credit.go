package session

import (
	"errors"
	"sync"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// ErrCredit is why a frame is refused that exceeds the host's transport credit.
var ErrCredit = errors.New("host exceeded its transport admission credit")

// What a host may send before anything was handed back (protocol section 15.1).
const (
	controlBytes, controlFrames = 8 << 20, 256
	bulkBytes, bulkFrames       = 32 << 20, 256
)

const (
	// creditBytes and creditFrames are what is told at once when it was handed back;
	// less is told after creditDelay. Hosts may hold the agent to these numbers.
	creditBytes  = 64 << 10
	creditFrames = 16
	creditDelay  = 5 * time.Millisecond
)

// A Credit counts what the host sends and what is handed back of it, since the handshake
// (protocol section 15.1). The nil Credit is for hosts that have none.
type Credit struct {
	due chan struct{}

	mu      sync.Mutex
	got     wire.TransportCounters // What has come,
	back    wire.TransportCounters // what of it has been consumed,
	told    wire.TransportCounters // and how much of that the host was told.
	timed   bool                   // A timer makes it due.
	silent  bool                   // Nothing is told, see Hush.
	arrived chan struct{}          // Closed, and replaced, with each frame of data.
}

// NewCredit returns what a host begins with.
func NewCredit() *Credit { return &Credit{due: make(chan struct{}, 1), arrived: make(chan struct{})} }

// A Charge is what one frame has cost the host. It is handed back once. That of a
// host without credit is nothing.
type Charge struct {
	Over bool // The host has exceeded its credit.

	to    *Credit
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
	ch := Charge{to: c, bytes: uint64(n), bulk: bulk}
	add(&c.got, ch)
	if bulk {
		close(c.arrived)
		c.arrived = make(chan struct{})
		// Other kinds are consumed as they come, however many come together.
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

// Refund hands the charge back: the frame has been handled, its bytes are where they
// belong, or they were dropped.
func (ch Charge) Refund() {
	c := ch.to
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
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

// Payer is Refund for an inbox, nil if nothing is due.
func (ch Charge) Payer() func() {
	if ch.to == nil {
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

// Due says when there is something to tell.
func (c *Credit) Due() <-chan struct{} { return c.due }

// Tell gives tell the limits, if the host does not know them and may be told.
func (c *Credit) Tell(tell func(wire.TransportCounters)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent || c.told == c.back {
		return
	}
	c.told = c.back
	tell(c.limitLocked())
}

// Hush tells nothing from now on, and gives tell the limits up to here; Speak gives
// tell the limits whatever they are, and goes on.
func (c *Credit) Hush(tell func(wire.TransportCounters)) { c.turn(true, tell) }

// Speak ends Hush.
func (c *Credit) Speak(tell func(wire.TransportCounters)) { c.turn(false, tell) }

func (c *Credit) turn(silent bool, tell func(wire.TransportCounters)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent, c.told = silent, c.back
	tell(c.limitLocked())
}

// Position is what has come, and a channel that is closed when more data has.
func (c *Credit) Position() (got wire.TransportCounters, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got, c.arrived
}

func (c *Credit) limitLocked() wire.TransportCounters {
	return wire.TransportCounters{
		ControlBytes: controlBytes + c.back.ControlBytes, ControlFrames: controlFrames + c.back.ControlFrames,
		BulkBytes: bulkBytes + c.back.BulkBytes, BulkFrames: bulkFrames + c.back.BulkFrames,
	}
}
