package session

import "sync"

// maxIdle is how many goroutines wait for something to do: a client that asks for
// one thing after the other needs one, with a command four, and an idle one holds
// some 10 KiB.
const maxIdle = 8

// goroutines keeps those that sessions have run on. A fresh one begins with a
// small stack, and to grow that once more for each request was a fifth of what the
// agent did for a stat.
type goroutines struct {
	mu   sync.Mutex
	idle []chan func() // Each with room for one.
}

// do runs f on a goroutine.
func (g *goroutines) do(f func()) {
	if next := g.waiting(); next != nil {
		next <- f
		return
	}
	go g.work(f)
}

// waiting takes the goroutine that has worked last.
func (g *goroutines) waiting() (next chan func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := len(g.idle) - 1; last >= 0 {
		next = g.idle[last]
		g.idle = g.idle[:last]
	}
	return next
}

func (g *goroutines) work(f func()) {
	for next := make(chan func(), 1); ; f = <-next {
		f()
		if !g.wait(next) {
			return
		}
	}
}

// wait offers a goroutine for more.
func (g *goroutines) wait(next chan func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) >= maxIdle {
		return false
	}
	g.idle = append(g.idle, next)
	return true
}
