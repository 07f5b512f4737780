package mux

// fifo is a first-in first-out queue that reuses its memory.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) empty() bool { return q.head == len(q.items) }

// front returns the oldest element; the queue must not be empty.
func (q *fifo[T]) front() T { return q.items[q.head] }

// len is how many elements there are, and at is the i-th oldest of them.
func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) at(i int) T { return q.items[q.head+i] }

// take takes the i-th oldest element out.
func (q *fifo[T]) take(i int) T {
	v := q.at(i)
	copy(q.items[q.head+1:], q.items[q.head:q.head+i])
	q.pop()
	return v
}

// tail returns a pointer to the newest element, or nil if the queue is empty.
func (q *fifo[T]) tail() *T {
	if q.empty() {
		return nil
	}
	return &q.items[len(q.items)-1]
}

func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) pop() T {
	var none T
	v := q.items[q.head]
	q.items[q.head] = none
	if q.head++; q.empty() {
		q.items, q.head = q.items[:0], 0
	}
	return v
}
