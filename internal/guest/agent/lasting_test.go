package agent_test

import (
	"io"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// A comingPort is a port whose hosts come and go, as a virtio port's do: while
// none is there, a read returns nothing at once and a write waits.
type comingPort struct {
	mu    sync.Mutex
	more  *sync.Cond
	host  *os.File // Our end of the link to the host of now; nil without one.
	reads int      // Without a host.
	late  bool     // Writes have a deadline that is over.
	stale []byte   // Is read while no host is there.
	asked int      // How often it was asked for a host since one came.
	hides int      // For as many questions.
}

func newComingPort() *comingPort {
	p := &comingPort{}
	p.more = sync.NewCond(&p.mu)
	return p
}

// comes connects a host, nil for none.
func (p *comingPort) comes(host *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host, p.asked = host, 0
	p.more.Broadcast()
}

// says has bytes read though no host is there.
func (p *comingPort) says(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale = b
}

// HostThere notices a host some time after it has spoken.
func (p *comingPort) HostThere() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.host != nil && p.asked > p.hides
}

func (p *comingPort) Read(b []byte) (int, error) {
	p.mu.Lock()
	host := p.host
	if host == nil {
		p.reads++
	}
	if host == nil && p.stale != nil {
		n := copy(b, p.stale)
		p.stale = nil
		p.mu.Unlock()
		return n, nil
	}
	p.mu.Unlock()
	if host == nil {
		return 0, io.EOF
	}
	n, err := host.Read(b)
	if err != nil {
		p.comes(nil)
	}
	return n, err
}

func (p *comingPort) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.host == nil && !p.late {
		p.more.Wait()
	}
	if p.late {
		return 0, os.ErrDeadlineExceeded
	}
	return p.host.Write(b)
}

func (p *comingPort) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = !t.IsZero()
	p.more.Broadcast()
	return nil
}

func (p *comingPort) SetReadDeadline(time.Time) error { return nil }
func (p *comingPort) SetDeadline(time.Time) error     { return nil }
func (p *comingPort) Close() error                    { return nil }

// A resumed agent begins with what was read before it, outlives hosts that break
// off anywhere, and does not run for one that is away.
func TestHostsComeAndGo(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port := newComingPort()
		port.hides = 3
		first, ours := link(t)
		port.comes(first)
		h := attach(t, ours)
		ping, err := wire.AppendFrame(nil, speaks, 9, &wire.Ping{})
		if err != nil {
			t.Fatal(err)
		}
		h.serve(agent.Resume(port, ping[:5]), first, config{})
		h.next(0)
		h.write(ping[5:])
		h.next(9)
		h.send(1, sh("echo $$ >/pid; while :; do echo more; done"))
		h.next(1)
		for i, last := range [][]byte{ping[:3], ping[:12], {0xff, 0xff, 0xff, 0xff, 1}, nil} {
			h.write(last)
			if err := ours.Close(); err != nil {
				t.Fatal(err)
			}
			before := looks(t, port, 2)
			started := time.Now()
			after := looks(t, port, before+3)
			if most := int(time.Since(started)/(50*time.Millisecond)) + 2; after-before > most {
				t.Errorf("host %d: %d looks for the next one in %v", i, after-before, time.Since(started))
			}
			port.says([]byte{0, 0}) // Late, of the host that has gone.
			looks(t, port, after+2)
			var theirs *os.File
			theirs, ours = link(t)
			h = attach(t, ours)
			port.comes(theirs)
			h.write(ping)
			if _, ok := h.next(9).Message.(*wire.Pong); !ok {
				t.Errorf("host %d: no answer to its ping", i)
			}
			if n := h.kept(1, 2); n != 0 {
				t.Errorf("host %d: %d frames of a session of the host before", i, n)
			}
		}
		if _, err := os.Stat("/proc/" + pidOf(t) + "/stat"); err != nil {
			t.Errorf("the command has not gone on: %v", err)
		}
	})
}

// looks waits until the port was read n times in vain, and returns how often it was.
func looks(t *testing.T, p *comingPort, n int) int {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		reads := p.reads
		p.mu.Unlock()
		if reads >= n {
			return reads
		}
		if time.Now().After(end) {
			t.Fatalf("the port was read %d times without a host, want %d", reads, n)
		}
	}
}

func pidOf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/pid")
	if err != nil || len(b) < 2 {
		t.Fatalf("the command has not said its id: %q, %v", b, err)
	}
	return string(b[:len(b)-1])
}

// An agent that is interrupted says so, also in the middle of a frame.
func TestInterrupt(t *testing.T) {
	port, ours := link(t)
	h := attach(t, ours)
	a := agent.Resume(port, nil)
	h.serveBare(a, port, speaks)
	h.next(0)
	h.write([]byte{0, 0, 0, 100, 0})
	a.Interrupt()
	if s := h.wait(); s.end != agent.Interrupted || s.err != nil {
		t.Errorf("ended with %d, %v", s.end, s.err)
	}
}

// A host that opens the port before the agent has noticed that the last one closed it says
// that every client has gone, and gets nothing of the last host's sessions. Its credit begins
// anew.
func TestHostComesUnnoticed(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port := newComingPort()
		theirs, ours := link(t)
		port.comes(theirs)
		h := attach(t, ours)
		h.serve(agent.Resume(port, nil), theirs, config{generation: wire.BarrierSince})
		h.next(0)
		h.send(1, sh("echo $$ >/pid; while :; do echo more; done"))
		h.next(1)
		h.next(1) // Its first output, after its id.
		h.send(0, &wire.ClientDisconnected{IDStart: 0, IDEndExclusive: math.MaxUint32})
		h.send(9, &wire.Ping{})
		if _, ok := h.next(9).Message.(*wire.Pong); !ok {
			t.Error("no answer to the ping")
		}
		before := h.kept(1, 2)
		h.send(9, &wire.Ping{})
		h.next(9)
		if n := h.kept(1, 2); n != before {
			t.Errorf("%d frames of a session of the host before", n-before)
		}
		if _, err := os.Stat("/proc/" + pidOf(t) + "/stat"); err != nil {
			t.Errorf("the command has not gone on: %v", err)
		}
	})
}
