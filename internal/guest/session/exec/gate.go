package exec

import "sync"

// A gate keeps the outputs of one command back while their client does not read
// (protocol section 8.7). Only the host closes it, and only for as long as somebody
// listens: so nothing bounds how long a wait at it lasts.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // Closed when the gate opens; nil while it is open.
	final  bool          // It is not shut any more.
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil && !g.final {
		g.closed = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.openLocked()
}

func (g *gate) openLocked() {
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// openForEver opens the gate when nobody is left to wait for.
func (g *gate) openForEver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.final = true
	g.openLocked()
}

// isShut is what a pump asks that has other things to do.
func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed != nil
}

// pass waits until the gate is open. It reports whether that took any waiting.
func (g *gate) pass() (waited bool) {
	for {
		g.mu.Lock()
		closed := g.closed
		g.mu.Unlock()
		if closed == nil {
			return waited
		}
		<-closed
		waited = true
	}
}
