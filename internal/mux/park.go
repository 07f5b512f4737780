package mux

// Express returns the outbox whose frames leave before all others, and while the
// Writer is parked too. There is one; its frames are few.
func (w *Writer) Express() *Outbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.express == nil {
		w.express = w.Keeping(DefaultOutbox, NewAllowance(DefaultOutbox))
	}
	return w.express
}

// Park keeps what is in the outboxes there, and what still comes, until Unpark; only
// frames of the express outbox leave. What is on its way already leaves as well,
// before them. It returns how many bytes the link has carried by then, but for theirs.
func (w *Writer) Park() (sent uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parked = true
	return w.sent
}

// Unpark lets everything leave again.
func (w *Writer) Unpark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parked {
		w.parked = false
		w.rouse()
	}
}

// firstLocked returns the outbox that the next frame is of, or nil.
func (w *Writer) firstLocked() *Outbox {
	switch {
	case w.express != nil && !w.express.queue.empty():
		return w.express
	case w.parked:
		return nil
	}
	return w.nextLocked()
}
