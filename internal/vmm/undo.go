package vmm

// An undo holds the functions that take steps back, in the order of the steps.
type undo []func()

func (u *undo) push(f func()) { *u = append(*u, f) }

// run takes all steps back, the last one first, once.
func (u *undo) run() {
	for len(*u) > 0 {
		last := len(*u) - 1
		f := (*u)[last]
		*u = (*u)[:last]
		f()
	}
}

// release forgets all steps, which then stay.
func (u *undo) release() { *u = nil }
