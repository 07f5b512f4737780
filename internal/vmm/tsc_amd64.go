package vmm

import "time"

const (
	// tscInterval against a stamp that is good to a microsecond gives the clock to
	// 1 in 10,000, closer than a guest measures it in the same time.
	tscInterval = 20 * time.Millisecond

	// tscTries is the number of tries for one stamp; at least one of them should not be
	// interrupted.
	tscTries = 16
)

// rdtsc reads the CPU's time stamp counter.
func rdtsc() uint64

// measureTSC returns the counter's frequency in kHz. A guest under software
// emulation sees the same counter.
func measureTSC() int {
	ticks, at := stamp()
	<-time.After(tscInterval)
	moreTicks, later := stamp()
	return int((moreTicks - ticks) * uint64(time.Millisecond) / uint64(later.Sub(at)))
}

// stamp reads both clocks together; it returns the quickest of several tries.
func stamp() (ticks uint64, at time.Time) {
	best := ^uint64(0)
	for range tscTries {
		before := rdtsc()
		now := time.Now()
		if d := rdtsc() - before; d < best {
			best, ticks, at = d, before+d/2, now
		}
	}
	return ticks, at
}
