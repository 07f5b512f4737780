package exec

import "sync"

// An outputHold stops the reading of one command's outputs while the client does not
// read (protocol section 8.7). Only the host sets it, and it ends when the client
// disconnects. So a wait for its end needs no deadline.
type outputHold struct {
	mu    sync.Mutex
	over  chan struct{} // Closed when the hold ends; nil without a hold.
	final bool          // set does nothing any more.
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

// endForGood ends the hold and refuses further ones. It is for a client that has gone.
func (h *outputHold) endForGood() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.final = true
	h.endLocked()
}

// isSet reports whether there is a hold, without waiting.
func (h *outputHold) isSet() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over != nil
}

// wait waits until there is no hold. It reports whether there was one.
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
