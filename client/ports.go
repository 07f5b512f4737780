package client

import "github.com/agentd-go/agentd/wire/frame"

// An agent with two ports sends records by the one and all else by the other
// (protocol section 14). A relay puts both into one stream as they come, so the last
// frame of a session may be ahead of its last records. It waits here for them.

const (
	// maxPostponed is the longest frame that waits: what ends a flow is a text at most.
	maxPostponed = 64 << 10

	// fewPostponed is how many may wait before those are looked for whose session was
	// given up: some more than files and connections that end at the same time.
	fewPostponed = 64
)

// A postponed frame is the last of its session, but for records.
type postponed struct {
	frame frame.Frame
	of    carrier
}

// twoPorts reports whether records have a port of their own.
func (c *Client) twoPorts() bool { return c.ready.BulkTransport != nil }

// postpone keeps a terminal frame back that is ahead of records. Only the reading
// goroutine calls it.
func (c *Client) postpone(f frame.Frame) bool {
	if f.Flags&frame.Terminal == 0 || len(f.Body) > maxPostponed {
		return false
	}
	of, ok := c.calls.owner(f.ID).(carrier)
	if !ok || !of.behind() {
		return false
	}
	if len(c.postponed) >= fewPostponed {
		for id, p := range c.postponed {
			if c.calls.owner(id) != receiver(p.of) {
				delete(c.postponed, id)
			}
		}
	}
	if c.postponed == nil {
		c.postponed = make(map[uint32]postponed)
	}
	c.postponed[f.ID] = postponed{f, of}
	return true
}

// resume delivers what was postponed for an id, if its last record has come.
func (c *Client) resume(id uint32) {
	p, ok := c.postponed[id]
	if !ok || p.of.behind() {
		return
	}
	delete(c.postponed, id)
	if c.calls.owner(id) == receiver(p.of) {
		c.route(p.frame)
	}
}
