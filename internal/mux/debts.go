package mux

import "sync"

// debts are the payments that are due when the session has used the bytes of an inbox.
// The sender was charged for these bytes, frame by frame. Payments are made in the
// order of the bytes, each with the last of its bytes.
type debts struct {
	mu        sync.Mutex
	open      fifo[debt]
	put, took int64
	forgiven  bool // Everything is paid, and what still comes is paid at once.
}

type debt struct {
	end int64 // What must have been taken before it is paid.
	pay func()
}

// add notes the payment for n bytes that were put into the inbox. They may have been
// taken already.
func (d *debts) add(n int, pay func()) {
	d.mu.Lock()
	d.put += int64(n)
	due := d.forgiven || d.took >= d.put
	if !due {
		d.open.push(debt{d.put, pay})
	}
	d.mu.Unlock()
	if due {
		pay()
	}
}

// take makes the payments for the next n bytes.
func (d *debts) take(n int) {
	d.mu.Lock()
	d.took += int64(n)
	due := d.dueLocked()
	d.mu.Unlock()
	for _, pay := range due {
		pay()
	}
}

func (d *debts) dueLocked() (due []func()) {
	for !d.open.empty() && (d.forgiven || d.open.front().end <= d.took) {
		due = append(due, d.open.pop().pay)
	}
	return due
}

// forgive pays everything, also what still comes.
func (d *debts) forgive() {
	d.mu.Lock()
	d.forgiven = true
	due := d.dueLocked()
	d.mu.Unlock()
	for _, pay := range due {
		pay()
	}
}

// PushFor is Push of bytes for which something is due: pay is called once, when Took
// has counted the last of them, when the inbox has been dropped or settled, or at
// once if p is not kept. It must not call the inbox. nil is nothing.
func (b *Inbox) PushFor(p []byte, pay func()) error {
	err := b.Push(p)
	switch {
	case pay == nil:
	case err != nil || len(p) == 0:
		pay()
	default:
		b.debts.add(len(p), pay)
	}
	return err
}

// Took counts n bytes as where they belong: what is due for them is paid.
func (b *Inbox) Took(n int) { b.debts.take(n) }

// Settle pays for all that is here and that still comes, although nobody has taken it:
// its reader has gone.
func (b *Inbox) Settle() { b.debts.forgive() }
