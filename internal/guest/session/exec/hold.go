package exec

import "sync"

// An outputHold keeps the outputs of one command back while their client does not read
// (protocol section 8.7). Only the host sets it, and only for as long as somebody
// listens: so nothing bounds how long a wait for its end lasts.
type outputHold struct {
	mu    sync.Mutex
	over  chan struct{} // Closed at its end; nil while there is none.
	final bool          // It is not set any more.
}

func (h *outputHold) set() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over == nil && !h.final {
		h.over = make(chan struct{})
	}
}

func (h *outputHold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endLocked()
}

func (h *outputHold) endLocked() {
	if h.over != nil {
		close(h.over)
		h.over = nil
	}
}

// endForGood ends it for ever, when nobody is left to wait for.
func (h *outputHold) endForGood() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.final = true
	h.endLocked()
}

// isSet is what a pump asks that has other things to do.
func (h *outputHold) isSet() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over != nil
}

// wait waits for its end. It reports whether that took any waiting.
func (h *outputHold) wait() (waited bool) {
	for {
		h.mu.Lock()
		over := h.over
		h.mu.Unlock()
		if over == nil {
			return waited
		}
		<-over
		waited = true
	}
}
