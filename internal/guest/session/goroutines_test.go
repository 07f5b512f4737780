package session

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Whoever asks gets a goroutine at once, and no more than some are kept.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		const many = 3 * maxIdle
		release, ran := make(chan struct{}), 0
		for range many {
			c.do(func() { <-release })
		}
		c.do(func() { ran++ })
		synctest.Wait()
		if ran != 1 || len(c.idle) != 1 {
			t.Errorf("%d ran beside others, %d wait for more", ran, len(c.idle))
		}
		close(release)
		synctest.Wait()
		if len(c.idle) != maxIdle {
			t.Errorf("%d of %d goroutines are kept", len(c.idle), many+1)
		}
		for range 2 {
			c.do(func() { ran++ })
			synctest.Wait()
		}
		if ran != 3 || len(c.idle) != maxIdle {
			t.Errorf("%d ran, %d wait for more", ran, len(c.idle))
		}
		for range maxIdle {
			c.do(runtime.Goexit) // The bubble waits for them.
			synctest.Wait()
		}
	})
}
