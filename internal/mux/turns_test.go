package mux_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
)

// A taker is a peer that takes every frame but those that begin with a letter of leaves. All
// frames have two bytes.
type taker struct {
	credit *mux.Credit
	leaves string

	mu    sync.Mutex
	limit mux.Totals
	got   map[byte]int
	held  int
}

func (p *taker) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; i < len(b); i += 2 {
		p.got[b[i]]++
		if strings.IndexByte(p.leaves, b[i]) >= 0 {
			p.held++
		} else {
			p.limit.Bytes, p.limit.Frames = p.limit.Bytes+2, p.limit.Frames+1
		}
	}
	go p.credit.Grant(mux.Totals{}, p.limit)
	return len(b), nil
}

func (p *taker) count(of byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[of]
}

// crowd lets several payers send frames to a peer: a letter is a payer.
func crowd(t *testing.T, leaves, payers string, frames int, then func(p *taker)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		window := mux.Totals{Bytes: 1 << 20, Frames: 64}
		p := &taker{credit: mux.NewCredit(mux.Totals{}, window), leaves: leaves, limit: window, got: map[byte]int{}}
		w := mux.NewWriter(p, 0)
		p.credit.Share(w, func([]byte) mux.Class { return mux.Data })
		var all sync.WaitGroup
		all.Go(func() { _ = w.Run() })
		for _, name := range []byte(payers) {
			o := w.Outbox(16)
			o.PayAs(new(mux.Payer))
			all.Go(func() {
				for range frames {
					if o.Send([]byte{name, 'x'}) != nil {
						return
					}
				}
			})
		}
		for range 100 * frames { // Turns that nothing comes of take time.
			synctest.Wait()
			time.Sleep(mux.TurnPatience)
		}
		then(p)
		w.Close()
		all.Wait()
	})
}

// Payers whose data nobody takes leave credit for the others, however many they are.
func TestStuckPayers(t *testing.T) {
	const frames = 100
	crowd(t, "ABCDEFGH", "ABCDEFGHxyz", frames, func(p *taker) {
		for _, name := range []byte("xyz") {
			if n := p.count(name); n != frames {
				t.Errorf("%d frames of %c were sent, want %d", n, name, frames)
			}
		}
		for _, name := range []byte("ABCDEFGH") {
			if n := p.count(name); n == 0 || n > 40 {
				t.Errorf("%d frames of %c, which nobody takes", n, name)
			}
		}
	})
}

// A payer that is stuck goes on when what it has sent is taken at last.
func TestStuckPayerGoesOn(t *testing.T) {
	const frames = 200
	crowd(t, "A", "AB", frames, func(p *taker) {
		if n := p.count('A'); n >= frames || p.count('B') != frames {
			t.Fatalf("%d and %d frames", n, p.count('B'))
		}
		p.mu.Lock()
		p.leaves = ""
		p.limit.Bytes, p.limit.Frames = p.limit.Bytes+2*uint64(p.held), p.limit.Frames+uint64(p.held)
		limit := p.limit
		p.mu.Unlock()
		p.credit.Grant(mux.Totals{}, limit)
		for range frames {
			synctest.Wait()
			time.Sleep(mux.TurnPatience)
		}
		if n := p.count('A'); n != frames {
			t.Errorf("%d frames, want all %d", n, frames)
		}
	})
}
