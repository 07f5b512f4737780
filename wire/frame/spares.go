package frame

const (
	// leastSpare and mostSpare bound the size of a body that is kept. An allocation of
	// a shorter one costs less than keeping it. Longer ones are rare and hold too much.
	leastSpare = 32 << 10
	mostSpare  = 128 << 10

	// spareBodies is how many are kept: as many as a steady stream uses at once (those
	// that wait before its reader pauses, one that is read, one that is written).
	spareBodies = 8

	// slack is extra room in a new body. A body that is given back has lost the bytes
	// before its data, some 50 each time.
	slack = 4 << 10
)

// Spares keeps the memory of bodies that are no longer used, for later bodies. Without
// it a large transfer would allocate, clear and collect all bytes that it moves. A nil
// *Spares keeps nothing. Its methods may be called at the same time.
type Spares struct{ kept chan []byte }

// NewSpares returns empty Spares.
func NewSpares() *Spares { return &Spares{make(chan []byte, spareBodies)} }

// Give takes a body, or the rest of one. No other code may use it later, nor the memory
// after it.
func (s *Spares) Give(b []byte) {
	if s == nil || cap(b) < leastSpare || cap(b) > mostSpare {
		return
	}
	select {
	case s.kept <- b:
	default:
	}
}

// Trim forgets the bodies that are kept.
func (s *Spares) Trim() {
	if s == nil {
		return
	}
	for {
		select {
		case <-s.kept:
		default:
			return
		}
	}
}

// take returns n bytes with any content.
func (s *Spares) take(n int) []byte {
	if s == nil || n < leastSpare || n > mostSpare {
		return make([]byte, n)
	}
	select {
	case b := <-s.kept:
		// Drop one that is too short for this stream. Drop one that is much too long
		// too: a queue that counts used bytes would hold more than it counts.
		if n <= cap(b) && cap(b) <= n+n/2 {
			return b[:n]
		}
	default:
	}
	return make([]byte, n, n+slack)
}
