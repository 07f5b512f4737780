package machines

import (
	"fmt"
	"sync"
)

// tallied is how many texts a tally tells apart: more than a port has reasons, and a
// bound for a guest that invents some.
const tallied = 32

// A tally keeps what happens again and again from filling a log that lasts as long
// as its machine: each text is said the first time, and then with its count at the
// 10th, 100th and so on.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

// again counts a text, and returns the line to say; "" if there is none.
func (t *tally) again(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = map[string]int{}
	}
	if _, known := t.seen[text]; !known && len(t.seen) >= tallied {
		text = "another failure"
	}
	t.seen[text]++
	n := t.seen[text]
	switch {
	case n == 1:
		return text
	case powerOfTen(n):
		return fmt.Sprintf("%s (%d times)", text, n)
	}
	return ""
}

func powerOfTen(n int) bool {
	for n > 1 && n%10 == 0 {
		n /= 10
	}
	return n == 1
}
