package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	stressVariable = "AGENTD_STRESS"
	stressTime     = 15 * time.Second
	stressSessions = 4
	// stressRound goes through one session before it is checked and begun anew.
	stressRound = 8 << 20
	// longestGap is how long nothing at all may arrive: a stall lasts for ever, a
	// busy host's pause of an emulated machine fractions of a second.
	longestGap = 3 * time.Second
)

// TestStress is the trial of the port: full traffic both ways on two processors
// that share one of the host's, which is where a port that is written and polled
// at the same time would stall.
func TestStress(t *testing.T) {
	ownOnly(t, "it is about our way to wait for the port; 0.6.14 lets all of it rest for some 5 s in each trial, and 0.5.5 is not asked")
	trial := stressTime
	if s := os.Getenv(stressVariable); s != "" {
		var err error
		if trial, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, kernel := range vmtest.Combinations(t) {
		if kernel.Configuration != sandbox.ByBootstrap {
			continue
		}
		t.Run(kernel.Kernel, func(t *testing.T) {
			m := vmtest.Start(t, kernel.Config(sandbox.Config{CPUs: 2, Affinity: []int{0}}))
			ctx, cancel := context.WithTimeout(t.Context(), trial+patience)
			defer cancel()
			newStress(&guest{Machine: m, ctx: ctx}, trial).run(t)
		})
	}
}

// A stress is one trial.
type stress struct {
	*guest
	until time.Time
	trial time.Duration

	arrived atomic.Int64 // Bytes.
	last    atomic.Int64 // When, in nanoseconds since start.
	gap     atomic.Int64 // The longest.
	pings   atomic.Int64
	slowest atomic.Int64
	start   time.Time
}

func newStress(g *guest, trial time.Duration) *stress {
	return &stress{guest: g, trial: trial, start: time.Now(), until: time.Now().Add(trial)}
}

func (s *stress) run(t *testing.T) {
	t.Helper()
	errs := make([]error, stressSessions+1)
	var all sync.WaitGroup
	for i := range stressSessions {
		all.Go(func() { errs[i] = s.session(uint64(i)) })
	}
	all.Go(func() { errs[stressSessions] = s.ping() })
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	took := time.Since(s.start)
	gap := time.Duration(s.gap.Load())
	t.Logf("%v: %d MiB each way, %.1f MiB/s each way; longest gap %v; %d pings, slowest %v", took.Round(time.Second),
		s.arrived.Load()>>20, float64(s.arrived.Load())/(1<<20)/took.Seconds(), gap.Round(time.Millisecond),
		s.pings.Load(), time.Duration(s.slowest.Load()).Round(time.Millisecond))
	if gap > longestGap {
		t.Errorf("nothing arrived for %v", gap)
	}
}

// session sends rounds of random bytes through cat until the trial is over.
func (s *stress) session(seed uint64) error {
	for round := uint64(0); time.Now().Before(s.until); round++ {
		data := random(stressRound, seed*16+round%16)
		got := sha256.New()
		c := s.cmd("cat")
		c.Stdin, c.Stdout = bytes.NewReader(data), io.MultiWriter(got, s)
		if err := c.Run(); err != nil {
			return fmt.Errorf("session %d, round %d: %w", seed, round, err)
		}
		if want := sha256.Sum256(data); !bytes.Equal(got.Sum(nil), want[:]) {
			return fmt.Errorf("session %d, round %d: other bytes than were sent", seed, round)
		}
	}
	return nil
}

// Write notes that something has arrived.
func (s *stress) Write(p []byte) (int, error) {
	s.arrived.Add(int64(len(p)))
	now := int64(time.Since(s.start))
	maximum(&s.gap, now-s.last.Swap(now))
	return len(p), nil
}

func maximum(of *atomic.Int64, value int64) {
	for {
		old := of.Load()
		if value <= old || of.CompareAndSwap(old, value) {
			return
		}
	}
}

// ping asks for a sign of life all the time.
func (s *stress) ping() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(s.until) {
		took, err := s.alive()
		if err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		s.pings.Add(1)
		maximum(&s.slowest, int64(took))
		<-tick.C
	}
	return nil
}
