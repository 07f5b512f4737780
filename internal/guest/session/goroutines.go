package session

import "sync"

// maxIdle bounds the idle goroutines that are kept. A client that sends one request
// after the other needs one; a command needs four. An idle one holds some 10 KiB.
const maxIdle = 8

// goroutines is a pool of goroutines that sessions have run on. A new goroutine begins
// with a small stack; to grow that for each request took a fifth of the agent's time for
// a stat.
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

// waiting takes the idle goroutine that worked last.
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

// wait puts a goroutine into the pool. It reports whether there was room.
func (g *goroutines) wait(next chan func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) >= maxIdle {
		return false
	}
	g.idle = append(g.idle, next)
	return true
}
