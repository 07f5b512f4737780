package client

import "github.com/agentd-go/agentd/wire/frame"

// An agent with two ports sends records by one port and everything else by the other
// (protocol section 14). A relay merges both into one stream as they come, so the last
// frame of a session may come before its last records. The frame waits here for them.

const (
	// maxPostponed is the longest frame that waits: a terminal frame has a text at most.
	maxPostponed = 64 << 10

	// fewPostponed is how many frames may wait before those of given-up sessions are removed:
	// somewhat more than files and connections that end at the same time.
	fewPostponed = 64
)

// A postponed frame is the terminal frame of a session whose last records have not come.
type postponed struct {
	frame frame.Frame
	of    carrier
}

// twoPorts reports whether records have a port of their own.
func (c *Client) twoPorts() bool { return c.ready.BulkTransport != nil }

// postpone keeps a terminal frame that came before its session's last records. Only the
// reading goroutine calls it.
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
