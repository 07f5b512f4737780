package session

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Whoever asks gets a goroutine at once, and no more than some are kept.
func TestGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g goroutines
		const many = 3 * maxIdle
		release, ran := make(chan struct{}), 0
		for range many {
			g.do(func() { <-release })
		}
		g.do(func() { ran++ })
		synctest.Wait()
		if ran != 1 || len(g.idle) != 1 {
			t.Errorf("%d ran beside others, %d wait for more", ran, len(g.idle))
		}
		close(release)
		synctest.Wait()
		if len(g.idle) != maxIdle {
			t.Errorf("%d of %d goroutines are kept", len(g.idle), many+1)
		}
		for range 2 {
			g.do(func() { ran++ })
			synctest.Wait()
		}
		if ran != 3 || len(g.idle) != maxIdle {
			t.Errorf("%d ran, %d wait for more", ran, len(g.idle))
		}
		for range maxIdle {
			g.do(runtime.Goexit) // The bubble waits for them.
			synctest.Wait()
		}
	})
}
