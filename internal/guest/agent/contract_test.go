package agent_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// serverName is what the test binary is called when it serves connections.
const serverName = "contract-server"

// TestContract is what every agent must do, without a machine around it.
func TestContract(t *testing.T) {
	nstest.Run(t, func() {
		l := connected(t, config{})
		serveConnections(t, l)
		for _, b := range contract.Behaviours() {
			if b.Machine {
				continue
			}
			t.Run(b.Name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := errors.Join(b.Check(l.Peer(ctx, 1)), l.Faults()); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// connected starts an agent in a root with the loopback up.
func connected(t *testing.T, c config) *contract.Link {
	t.Helper()
	nstest.Root(t)
	if c.generation >= wire.BarrierSince {
		c.group = workload(t)
	}
	if err := sys.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port, ours := link(t)
	l := contract.NewLink(func(b []byte) error {
		_, err := ours.Write(b)
		return err
	}, new(sync.Mutex))
	go l.Run(frame.NewReader(ours).Next)
	t.Cleanup(func() { _ = ours.Close() })
	h := &host{t: t, port: ours, end: make(chan served, 1)}
	h.serve(agent.Open(port), port, c)
	if r, err := l.Next(t.Context(), 0); err != nil || r.Type != wire.TypeReady {
		t.Fatalf("the first frame: %s, %v", r.Type, err)
	}
	return l
}

func serveConnections(t *testing.T, l *contract.Link) {
	t.Helper()
	p := l.Peer(t.Context(), 9)
	if err := p.Send(0, contract.Shell("exec -a "+serverName+" /proc/1/exe")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // That it is started, and its word.
		if r, err := p.Hear(0); err != nil || r.Flags != 0 {
			t.Fatalf("the server: %+v, %v", r.Message, err)
		}
	}
}

// TestRules is what an agent of generation 9 must do for its only host, without a machine.
func TestRules(t *testing.T) {
	nstest.Run(t, func() {
		h := connected(t, config{generation: nine}).Host(t.Context())
		_, none := os.Stat("/sys/fs/cgroup/cgroup.procs")
		for _, r := range contract.Rules() {
			if r.Machine || r.Freezes && none != nil {
				continue
			}
			t.Run(r.Name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				in, done := h.WithContext(ctx)
				defer done()
				if err := errors.Join(r.Check(in), h.Faults()); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

var seed = flag.Uint64("seed", 0, "seed of the hostile frames; 0 takes another each time")

// Whatever comes in frames of a valid length, what was opened before still works,
// and nothing of it stays in memory.
func TestHostileFrames(t *testing.T) {
	nstest.Run(t, func() {
		l := connected(t, config{})
		from := *seed
		if from == 0 {
			from = uint64(time.Now().UnixNano())
		}
		t.Logf("repeat with -seed=%d", from)
		mine := l.Peer(t.Context(), 40)
		if err := mine.Send(0, contract.Shell("read line; echo still $line")); err != nil {
			t.Fatal(err)
		}
		const frames = 20_000
		before := heap()
		if err := l.Peer(t.Context(), 1).Hostile(from, frames); err != nil {
			t.Fatal(err)
		}
		if err := mine.Send(0, &wire.ExecStdin{Data: []byte("here\n")}); err != nil {
			t.Fatal(err)
		}
		if r, err := mine.Collect(0); err != nil || string(r.Stdout) != "still here\n" || r.Code != 0 {
			t.Errorf("the session from before: %q, code %d, %v", r.Stdout, r.Code, err)
		}
		if _, err := mine.Say("killall -9 cat || true"); err != nil { // They outlive their clients.
			t.Fatal(err)
		}
		const left = 1 << 20 // Maps that have grown.
		eventually(t, "the memory is back", func() bool { return heap()-before < left })
	})
}
