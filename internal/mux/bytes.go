package mux

import "slices"

// smallPiece is the largest piece that is gathered with its neighbours. A byte
// alone would cost what holds it as well, the body of a frame and a place in the
// queue, a hundred times what the bounds count; gathered it costs at most thrice.
const smallPiece = 2 << 10

// gathered is the room of small pieces together.
const gathered = 2 * smallPiece

// Bytes is a queue of pieces of bytes, of which small ones are gathered. The zero
// value is empty.
type Bytes struct{ pieces fifo[[]byte] }

// Empty reports whether there are no bytes.
func (q *Bytes) Empty() bool { return q.pieces.empty() }

// Push appends p, which then belongs to the queue and is not empty. It reports whether
// p is a piece of its own.
func (q *Bytes) Push(p []byte) (fresh bool) {
	if tail := q.pieces.tail(); len(p) <= smallPiece && tail != nil && cap(*tail) <= gathered && cap(*tail)-len(*tail) >= len(p) {
		*tail = append(*tail, p...)
		return false
	}
	q.pieces.push(roomy(p))
	return true
}

// roomy copies a small piece to where more of its kind fit after it.
func roomy(p []byte) []byte {
	switch {
	case len(p) <= smallPiece:
		return append(make([]byte, 0, gathered), p...)
	case cap(p) <= gathered:
		return slices.Clip(p) // The memory after it is not ours to append to.
	}
	return p // Nor here, and it has too much room to be taken for ours.
}

// Pop returns the oldest piece; the queue must not be empty.
func (q *Bytes) Pop() []byte { return q.pieces.pop() }

// Copy moves bytes of the oldest piece to p. It reports whether none of that piece is
// left. The queue must not be empty.
func (q *Bytes) Copy(p []byte) (n int, whole bool) {
	first := &q.pieces.items[q.pieces.head]
	n = copy(p, *first)
	if *first = (*first)[n:]; len(*first) > 0 {
		return n, false
	}
	q.pieces.pop()
	return n, true
}

// Len is how many bytes there are.
func (q *Bytes) Len() (n int) {
	for _, p := range q.pieces.items[q.pieces.head:] {
		n += len(p)
	}
	return n
}
