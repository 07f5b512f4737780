package mux

import "slices"

// smallPiece is the largest piece that is joined with its neighbours. The bounds count
// only bytes. A piece of one byte also needs its own allocation and a place in the
// queue, a hundred times as much; joined pieces cost at most three times their bytes.
const smallPiece = 2 << 10

// gathered is the capacity for small pieces that are joined.
const gathered = 2 * smallPiece

// Bytes is a queue of byte slices that joins small ones. The zero value is empty.
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

// roomy copies a small piece to a slice with room for more small pieces.
func roomy(p []byte) []byte {
	switch {
	case len(p) <= smallPiece:
		return append(make([]byte, 0, gathered), p...)
	case cap(p) <= gathered:
		return slices.Clip(p) // The capacity belongs to the caller; never append there.
	}
	return p // Its capacity exceeds gathered, so Push never appends to it.
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

// Len returns the number of bytes in the queue.
func (q *Bytes) Len() (n int) {
	for _, p := range q.pieces.items[q.pieces.head:] {
		n += len(p)
	}
	return n
}
