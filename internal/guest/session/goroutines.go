package session

import "sync"

// maxIdle is how many goroutines wait for something to do: a client that asks for
// one thing after the other needs one, with a command four, and an idle one holds
// some 10 KiB.
const maxIdle = 8

// A crew keeps the goroutines that sessions have run on. A fresh one begins with a
// small stack, and to grow that once more for each request was a fifth of what the
// agent did for a stat.
type crew struct {
	mu   sync.Mutex
	idle []chan func() // Each with room for one.
}

// do runs f on a goroutine.
func (c *crew) do(f func()) {
	if next := c.waiting(); next != nil {
		next <- f
		return
	}
	go c.work(f)
}

// waiting takes the goroutine that has worked last.
func (c *crew) waiting() (next chan func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := len(c.idle) - 1; last >= 0 {
		next = c.idle[last]
		c.idle = c.idle[:last]
	}
	return next
}

func (c *crew) work(f func()) {
	for next := make(chan func(), 1); ; f = <-next {
		f()
		if !c.wait(next) {
			return
		}
	}
}

// wait offers a goroutine for more.
func (c *crew) wait(next chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) >= maxIdle {
		return false
	}
	c.idle = append(c.idle, next)
	return true
}
