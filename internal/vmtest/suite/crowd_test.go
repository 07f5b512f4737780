package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// crowdSize is how many clients there are, the silent one among them.
	crowdSize = 20
	// pulsePeriod is how often each of the others asks for a sign of life: some
	// 200 a second together, which leaves an emulated machine time for the rest.
	pulsePeriod = 100 * time.Millisecond
)

// crowdTime is how long a phase takes, and how many pairs of them there are.
func crowdTime() (phase time.Duration, pairs int) {
	if long() {
		return 5 * time.Second, 6
	}
	return 2 * time.Second, 2
}

// TestSilentClient has one client stop reading while its command floods, and
// looks at how long the others wait for signs of life. Phases with and without it
// take turns, because what else the host does matters as much.
func TestSilentClient(t *testing.T) {
	ownOnly(t, "their one queue of output is everybody's")
	kernels := vmtest.Kernels(t)
	if !long() {
		kernels = kernels[:1] // The relay's business is the same on all.
	}
	for _, kernel := range kernels {
		t.Run(kernel, func(t *testing.T) {
			h := share(t, sandbox.Config{Kernel: kernel})
			phase, pairs := crowdTime()
			h.last(t, patience+time.Duration(3*pairs)*phase)
			var others []*guest
			for range crowdSize - 1 {
				g, done, err := h.dial()
				if err != nil {
					t.Fatal(err)
				}
				defer done()
				others = append(others, g)
			}
			var without, reading, with phases
			for range pairs {
				without = append(without, pulses(t, others, phase))
				reading = append(reading, h.flood(t, others, phase, true))
				with = append(with, h.flood(t, others, phase, false))
			}
			compare(t, without, reading, with)
		})
	}
}

// TestSilentClientsCommandWaits has a command say more than is kept for a client that
// does not read. It waits, as on a pipe, and goes on when the client reads.
func TestSilentClientsCommandWaits(t *testing.T) {
	ownOnly(t, "they have no word for that")
	const pieces, most = 256, 64 // Of 64 KiB.
	h := share(t, sandbox.Config{Kernel: vmtest.Kernels(t)[0]})
	b, err := h.bare()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }() // Nothing is left to say.
	if err := b.tell(b.start, &wire.ExecRequest{Cmd: "sh", Args: []string{"-c", fmt.Sprintf(
		"for i in $(seq %d); do head -c 65536 /dev/zero; echo $i >/tmp/said; done", pieces)}}); err != nil {
		t.Fatal(err)
	}
	said, err := h.rest("/tmp/said")
	if n, wrong := strconv.Atoi(strings.TrimSpace(said)); err != nil || wrong != nil || n > most {
		t.Errorf("the command has said %q times 64 KiB to a client that does not read (%v)", said, err)
	}
	if size, err := b.output(); size != pieces<<16 || err != nil {
		t.Errorf("got %d bytes, want %d; %v", size, pieces<<16, err)
	}
}

// rest is what a file holds when it has not changed for a second.
func (h *hub) rest(name string) (content string, err error) {
	const long = 10 // Looks.
	tick := time.NewTicker(departureTick)
	defer tick.Stop()
	for same := 0; same < long; <-tick.C {
		now, err := h.say("cat " + name + " 2>/dev/null || true")
		if err != nil {
			return "", err
		}
		if same++; now != content || now == "" {
			content, same = now, 0
		}
	}
	return content, nil
}

// output reads a command's frames up to the last, and counts what it has said.
func (b *bare) output() (size int, err error) {
	for {
		f, err := b.frames.Next()
		if err != nil {
			return size, err
		}
		e, err := wire.DecodeEnvelope(f.Body)
		if err == nil && e.Type == wire.TypeExecStdout {
			data, _ := wire.DataOf(e) // Too little is counted of what is wrong.
			size += len(data)
		}
		if err != nil || f.Flags&frame.Terminal != 0 {
			return size, err
		}
	}
}

// TestSilentClientIsEnded lets a client leave more unread than there is room for, of
// a file, which nothing holds back: it loses its connection, and the others do not
// notice.
func TestSilentClientIsEnded(t *testing.T) {
	if !long() {
		t.Skip("an emulated machine takes a minute to say 260 MiB: AGENTD_LONG=1")
	}
	c := vmtest.Combinations(t)[0]
	h := share(t, c.Config(sandbox.Config{}))
	h.last(t, 10*time.Minute)
	b, err := h.streamed("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }() // By then it is closed.
	start := time.Now()
	var worst time.Duration
	tick := time.NewTicker(departureTick)
	defer tick.Stop()
	var said []string
	for len(said) == 0 {
		<-tick.C
		took, err := h.alive()
		if err != nil {
			t.Fatal(err)
		}
		worst, said = max(worst, took), h.said.take()
	}
	t.Logf("after %v, in which the slowest sign of life took %v: %q", time.Since(start).Round(time.Second), worst, said)
	if err := h.awaitSlot(b.start); err != nil {
		t.Error(err)
	}
}

// last gives what is asked of the machine more time than one behaviour has.
func (h *hub) last(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	h.ctx = ctx
}

// flood is a phase with one more client, whose command floods it.
func (h *hub) flood(t *testing.T, others []*guest, phase time.Duration, reads bool) (took []time.Duration) {
	t.Helper()
	b, err := h.flooded(reads)
	if err != nil {
		t.Fatal(err)
	}
	took = pulses(t, others, phase)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := h.awaitSlot(b.start); err != nil {
		t.Error(err)
	}
	return took
}

// flooded is a client whose command floods it, and that reads or does not.
func (h *hub) flooded(reads bool) (*bare, error) {
	b, err := h.bare()
	if err != nil {
		return nil, err
	}
	if err = b.tell(b.start, &wire.ExecRequest{Cmd: "yes"}); err == nil {
		_, err = b.until(wire.TypeExecStdout)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if reads {
		go func() { _, _ = io.Copy(io.Discard, b) }() // Until it is closed.
	}
	return b, nil
}

// streamed is a client that is sent a file for ever, and does not read.
func (h *hub) streamed(name string) (*bare, error) {
	b, err := h.bare()
	if err != nil {
		return nil, err
	}
	err = b.tell(b.start, &wire.FSRequest{Op: &wire.OpOpenFile{Path: name, Options: wire.OpenOptions{Read: true}}})
	var e wire.Envelope
	if err == nil {
		e, err = b.until(wire.TypeFSResponse)
	}
	if err == nil {
		var handle uint64
		if handle, err = handleOf(e); err == nil {
			err = b.tell(b.start+1, &wire.FSRequest{Op: &wire.OpRead{Handle: handle}})
		}
	}
	if err == nil {
		_, err = b.until(wire.TypeFSData)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func handleOf(e wire.Envelope) (uint64, error) {
	m, err := wire.Decode(e)
	if err != nil {
		return 0, err
	}
	if r, ok := m.(*wire.FSResponse); ok {
		if h, ok := r.Data.(*wire.ResultHandle); ok {
			return h.Handle, nil
		}
	}
	return 0, fmt.Errorf("no handle in %+v", m)
}

// pulses has each client ask for signs of life, and returns how long they took.
func pulses(t *testing.T, clients []*guest, phase time.Duration) (all []time.Duration) {
	t.Helper()
	took := make([][]time.Duration, len(clients))
	end := time.Now().Add(phase)
	err := together(len(clients), func(n int) error {
		// Not all at the same time.
		first := time.NewTimer(pulsePeriod * time.Duration(n) / crowdSize)
		defer first.Stop()
		<-first.C
		tick := time.NewTicker(pulsePeriod)
		defer tick.Stop()
		for time.Now().Before(end) {
			d, err := clients[n].Client().Ping(clients[n].ctx)
			if err != nil {
				return fmt.Errorf("client %d: %w", n, err)
			}
			took[n] = append(took[n], d)
			<-tick.C
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(took...)
}

// phases are how long the signs of life took, in each of several phases.
type phases [][]time.Duration

// p99 is the median of what it was in each phase: what else the host does in one of
// them does not count.
func (all phases) p99() time.Duration {
	of := make([]time.Duration, len(all))
	for i, took := range all {
		of[i] = percentile(took, 99)
	}
	return percentile(of, 50)
}

func compare(t *testing.T, without, reading, with phases) {
	t.Helper()
	for _, of := range []struct {
		what string
		took phases
	}{{"without a flood", without}, {"with one that is read", reading}, {"with one that is not", with}} {
		together := slices.Concat(of.took...)
		t.Logf("ping of %d clients %s: p50 %v, p99 %v, median of %d phases' p99 %v (%d)",
			crowdSize-1, of.what, percentile(together, 50), percentile(together, 99), len(of.took), of.took.p99(), len(together))
	}
	bound, of := 2*without.p99(), "without a flood"
	if !long() {
		// A busy host's pauses are longer than what is looked for; that who waits for
		// the client waits for ever is seen all the same.
		bound, of = max(bound, 2*reading.p99(), promptly), "otherwise, or "+promptly.String()
	}
	if p99 := with.p99(); p99 > bound {
		t.Errorf("p99 is %v beside a client that does not read, more than twice what it is %s", p99, of)
	}
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[(len(all)-1)*p/100].Round(10 * time.Microsecond)
}
