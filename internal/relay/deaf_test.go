package relay_test

import (
	"strings"
	"testing"
	"testing/synctest"
)

// A guest that sends but does not read gets only as many hold and go frames as fit its
// queue, however often the client is slow and quick again.
func TestDeafGuest(t *testing.T) {
	play(t, func(w *world) {
		const commands, times = 200, 20
		c, _ := w.begun(commands), w.begun(1)
		flood := raw(c.start, 0, strings.Repeat("y", 1<<19))
		for range times {
			for range 4 {
				w.guest.send(flood)
			}
			synctest.Wait()
			c.expect(flood, flood, flood, flood)
			synctest.Wait()
		}
		heard := 0
		for _, ok := w.guest.poll(); ok; _, ok = w.guest.poll() {
			heard++
		}
		word := len(words(t).Hold(c.start))
		// The last words may be said beyond the queue's bound, and each is taken back.
		if most := 2 * (64<<10/word + commands); heard == 0 || heard > most {
			t.Errorf("%d words, want at most %d", heard, most)
		}
	})
}
