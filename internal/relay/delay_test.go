package relay_test

import (
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// TestDelay measures how much a client that does not read delays the others in the
// relay alone. The guest answers at once and floods with 32 MB/s, more than an emulated
// machine's port carries. Phases with and without the flood take turns.
func TestDelay(t *testing.T) {
	const (
		clients = 20
		phase   = 300 * time.Millisecond
		turns   = 4
		// pause is longer than a busy host's: 150 ms were seen. Who waits for the client
		// waits for ever.
		pause = time.Second
	)
	path, link := serve(t)
	g := &instant{t: t, link: link}
	defer g.serve()()
	var all []*peer
	for range clients {
		c := dial(t, path)
		defer c.leave()
		all = append(all, c)
	}
	silent, others := all[0], all[1:]
	var without, with []time.Duration
	for range turns {
		without = append(without, pings(others, phase)...)
		stop := g.flood(silent.start)
		with = append(with, pings(others, phase)...)
		stop()
	}
	a, b := p99(without), p99(with)
	t.Logf("%d clients' p99: %v without a flood (%d pings), %v with one that is not read (%d)", len(others), a, len(without), b, len(with))
	if b > max(2*a, pause) {
		t.Errorf("p99 is %v beside a client that does not read, %v without it", b, a)
	}
}

// serve starts a relay on a real socket and returns the guest's end of its link.
func serve(t *testing.T) (path string, guest net.Conn) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "s")
	link, err := net.Listen("unix", filepath.Join(dir, "link"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = link.Close() }() // It has served its one connection.
	if guest, err = net.Dial("unix", link.Addr().String()); err != nil {
		t.Fatal(err)
	}
	near, err := link.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l, err := relay.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	r := relay.New(relay.Config{Link: near, Ready: ready(t), Words: words(t), Dir: dir})
	r.Serve(l)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return path, guest
}

// An instant guest answers every frame with a terminal one.
type instant struct {
	t    *testing.T
	mu   sync.Mutex
	link net.Conn
}

func (g *instant) write(b []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.link.Write(b); err != nil && !errors.Is(err, net.ErrClosed) { // Some leave after the end.
		g.t.Error(err)
	}
}

// serve answers until the function that it returns is called.
func (g *instant) serve() (end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for frames := frame.NewReader(g.link); ; {
			f, err := frames.Next()
			if err != nil {
				return
			}
			if f.ID != 0 {
				g.write(message(g.t, f.ID, &wire.Pong{}))
			}
		}
	}()
	return func() {
		_ = g.link.Close() // Ends the reading.
		<-done
	}
}

// flood sends for somebody until the function that it returns is called.
func (g *instant) flood(id uint32) (stop func()) {
	const burst, every = 10, 10 * time.Millisecond
	b := raw(id, 0, strings.Repeat("y\n", 16<<10))
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			for range burst {
				g.write(b)
			}
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// pings has each client ask and wait for the answer, and returns how long that took.
func pings(clients []*peer, phase time.Duration) (all []time.Duration) {
	took := make([][]time.Duration, len(clients))
	var asked sync.WaitGroup
	for n, c := range clients {
		asked.Go(func() {
			ping := message(c.t, c.start, &wire.Ping{})
			tick := time.NewTicker(phase / 60)
			defer tick.Stop()
			for begin := time.Now(); time.Since(begin) < phase; <-tick.C {
				start := time.Now()
				c.send(ping)
				if _, err := c.frames.Next(); err != nil {
					c.t.Error(err)
					return
				}
				took[n] = append(took[n], time.Since(start))
			}
		})
	}
	asked.Wait()
	return slices.Concat(took...)
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[(len(all)-1)*99/100].Round(time.Microsecond)
}
