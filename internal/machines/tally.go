package machines

import (
	"fmt"
	"sync"
)

// tallied is how many texts a tally counts separately: more than a port has reasons to
// fail, and a bound in case a guest invents some.
const tallied = 32

// A tally keeps repeated messages from filling a machine's log: a text is logged the
// first time, and then with its count at the 10th, 100th and so on.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

// again counts a text and returns the line to log, or "" for none.
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
