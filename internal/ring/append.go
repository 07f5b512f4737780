package ring

import "github.com/agentd-go/agentd/internal/mux"

// Append adds bytes. It reports whether it had to wait. Only one goroutine may call it.
func (r *Ring) Append(b []byte) (waited bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(b) > 0 && !r.closed {
		n := r.putLocked(b)
		if b = b[n:]; n > 0 {
			r.wakeLocked()
			continue
		}
		if !r.roomLocked() && !r.closed {
			r.waitLocked()
			waited = true
		}
	}
	return waited
}

// putLocked copies what fits into memory.
func (r *Ring) putLocked(b []byte) int {
	if len(r.buf) == 0 {
		r.buf = make([]byte, r.least())
	}
	n := min(len(b), len(r.buf)-int(r.end-r.mem))
	for done := 0; done < n; {
		to := int((r.end + uint64(done)) % uint64(len(r.buf)))
		done += copy(r.buf[to:], b[done:n])
	}
	r.end += uint64(n)
	return n
}

// roomLocked makes room in memory: by more of it, by the file, or by forgetting. It reports
// false if bytes must be consumed first.
func (r *Ring) roomLocked() bool {
	if r.growLocked() {
		return true
	}
	n := len(r.buf) / 2
	if r.c.Wait && r.acked > r.mem {
		r.forgetLocked(min(r.acked, r.mem+uint64(n)))
		return true
	}
	if r.disk > 0 {
		if done, ok := r.spillLocked(n); done {
			return ok
		}
	}
	return r.dropLocked(r.mem + uint64(n))
}

// growLocked doubles the memory.
func (r *Ring) growLocked() bool {
	size := min(2*len(r.buf), r.c.Memory/least*least)
	if size <= len(r.buf) || !take(r.c.MemoryBudget, int64(size-len(r.buf))) {
		return false
	}
	old := r.buf
	bigger := make([]byte, size)
	for at := r.mem; at < r.end; {
		from := old[at%uint64(len(old)):]
		n := copy(bigger[at%uint64(size):], from[:min(len(from), int(r.end-at))])
		at += uint64(n)
	}
	r.buf = bigger
	return true
}

// dropLocked forgets the bytes before an offset, if that is allowed.
func (r *Ring) dropLocked(upTo uint64) bool {
	if r.c.Wait && r.acked < upTo {
		return false
	}
	r.forgetLocked(upTo)
	return true
}

func (r *Ring) forgetLocked(upTo uint64) {
	r.start = max(r.start, upTo)
	r.mem = max(r.mem, r.start)
}

// waitLocked waits until bytes are consumed.
func (r *Ring) waitLocked() {
	changed := r.changedLocked()
	r.mu.Unlock()
	<-changed
	r.mu.Lock()
}

// spillLocked moves the oldest n bytes of the memory to the file. It gives the lock up
// while it writes. done is false if the bytes must go another way.
func (r *Ring) spillLocked(n int) (done, ok bool) {
	if !r.openLocked() {
		return false, false
	}
	n = min(n, int(r.disk))
	if over := int64(r.mem-r.start) + int64(n) - r.disk; over > 0 && !r.dropLocked(r.start+uint64(over)) {
		return true, false
	}
	if !r.reserveLocked(n) {
		r.shrinkLocked()
		return true, true
	}
	file, buf, at := r.file, r.buf, r.mem
	r.mu.Unlock()
	err := r.write(file, buf, at, n) // Only the writer, which is here, changes the memory.
	r.mu.Lock()
	switch {
	case r.closed:
		return true, true
	case err != nil:
		r.shrinkLocked()
		return true, true
	}
	r.mem += uint64(n)
	return true, true
}

// openLocked opens the file. Without one the ring has its memory only.
func (r *Ring) openLocked() bool {
	if r.file != nil {
		return true
	}
	r.mu.Unlock()
	file, err := r.c.Storage()
	r.mu.Lock()
	switch {
	case err != nil:
		r.disk = 0
		return false
	case r.closed:
		_ = file.Close()
		return false
	}
	r.file = file
	return true
}

// write puts n bytes of the memory at their place in the file.
func (r *Ring) write(file mux.Storage, buf []byte, at uint64, n int) error {
	for n > 0 {
		from, to := int(at%uint64(len(buf))), int64(at%uint64(r.disk))
		piece := int(min(int64(n), int64(len(buf)-from), r.disk-to))
		if _, err := file.WriteAt(buf[from:from+piece], to); err != nil {
			return err
		}
		n, at = n-piece, at+uint64(piece)
	}
	return nil
}

// reserveLocked takes the disk that n more bytes need from the budget.
func (r *Ring) reserveLocked(n int) bool {
	high := min(int64(min(r.mem, uint64(r.disk)))+int64(n), r.disk)
	if high <= r.high {
		return true
	}
	if !take(r.c.DiskBudget, high-r.high) {
		return false
	}
	r.high = high
	return true
}

// shrinkLocked makes do with the disk that the ring has: there is no more. Bytes in the
// file stay where they are as long as none lies beyond.
func (r *Ring) shrinkLocked() {
	used := int64(min(r.mem, uint64(r.disk)))
	if used < r.disk && used > 0 {
		give(r.c.DiskBudget, r.high-used)
		r.disk, r.high = used, used
		return
	}
	r.disk = 0 // What is in the file is lost.
	r.forgetLocked(r.mem)
}
