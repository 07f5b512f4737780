package vmm

// An undo is what to take back, in the order in which it was done.
type undo []func()

func (u *undo) push(f func()) { *u = append(*u, f) }

// run takes everything back, the last first, once.
func (u *undo) run() {
	for len(*u) > 0 {
		last := len(*u) - 1
		f := (*u)[last]
		*u = (*u)[:last]
		f()
	}
}

// release forgets everything: what was done is to stay.
func (u *undo) release() { *u = nil }
