package frame

const (
	// leastSpare and mostSpare bound the room of a body that is kept. Shorter ones
	// cost less than keeping them, longer ones are rare and hold too much.
	leastSpare = 32 << 10
	mostSpare  = 128 << 10

	// spareBodies is how many are kept: those of a flood that are on their way at
	// once (what waits before its reader pauses, what is read, what is written).
	spareBodies = 8

	// slack is the room after a new one: what is given back lacks what stood before
	// the data, some 50 bytes each time.
	slack = 4 << 10
)

// Spares are the memory of bodies that nobody needs any more, for those to come.
// A flood else allocates, clears and collects all that it moves. A nil *Spares
// keeps nothing. Its methods may be called at the same time.
type Spares struct{ kept chan []byte }

// NewSpares returns empty Spares.
func NewSpares() *Spares { return &Spares{make(chan []byte, spareBodies)} }

// Give takes a body, or the rest of one, which nobody may use any more, the memory
// after it included.
func (s *Spares) Give(b []byte) {
	if s == nil || cap(b) < leastSpare || cap(b) > mostSpare {
		return
	}
	select {
	case s.kept <- b:
	default:
	}
}

// take returns n bytes, whatever they hold.
func (s *Spares) take(n int) []byte {
	if s == nil || n < leastSpare || n > mostSpare {
		return make([]byte, n)
	}
	select {
	case b := <-s.kept:
		// One that is too short for this flood is given up. So is one that is much
		// too long: a queue that counts what is in use would hold more than it counts.
		if n <= cap(b) && cap(b) <= n+n/2 {
			return b[:n]
		}
	default:
	}
	return make([]byte, n, n+slack)
}
