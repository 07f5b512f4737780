package relay_test

import (
	"strconv"
	"testing"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire/frame"
)

// A client whose command reads no input holds up itself alone, also with a guest that gives
// credit back only for input that was read, and says to nobody whose that was.
//
//holds:wire 15: a relay keeps to the credit of the published agent; a client whose command reads nothing holds up itself alone
func TestInputThatNobodyReads(t *testing.T) {
	const window, many = 32, 200
	limits := relay.Limits{ControlBytes: 1 << 30, ControlFrames: 1 << 20, DataBytes: 1 << 30, DataFrames: window}
	playWith(t, func(w *world, cfg *relay.Config) {
		freezing(w, cfg)
		cfg.Words.First = limits
		cfg.Words.IsData = func(f frame.Frame) bool { return string(f.Body) == "input" }
		cfg.Words.Credit = func(f frame.Frame) (relay.Limits, bool) {
			taken, err := strconv.ParseUint(string(f.Body), 10, 64)
			now := limits
			now.DataFrames += taken
			now.DataBytes += taken * (frame.HeaderSize + uint64(len("input")))
			return now, f.ID == nobodysID && err == nil
		}
	}, func(w *world) {
		deaf, reads := w.connect(), w.connect()
		for _, c := range []*peer{deaf, reads} {
			go func() {
				for range many {
					if _, err := c.conn.Write(raw(c.start, 0, "input")); err != nil {
						return // The end of the test.
					}
				}
			}()
		}
		got := map[uint32]int{}
		for got[reads.start] < many {
			f, err := w.guest.frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			if got[f.ID]++; f.ID == reads.start {
				w.guest.send(raw(nobodysID, 0, strconv.Itoa(got[f.ID])))
			}
		}
		if n := got[deaf.start]; n == 0 || n >= window {
			t.Errorf("%d frames of the client whose input nobody reads", n)
		}
	})
}
