package agent_test

import (
	"context"
	"os"
	"sync"
	"testing"

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
		nstest.Root(t)
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
		h := &host{t: t, port: ours, end: make(chan served, 1)}
		t.Cleanup(func() { _ = ours.Close() })
		h.serve(agent.Open(port), port, config{})
		if r, err := l.Next(t.Context(), 0); err != nil || r.Type != wire.TypeReady {
			t.Fatalf("the first frame: %s, %v", r.Type, err)
		}
		p := l.Peer(t.Context(), 9)
		if err := p.Send(0, &wire.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "exec -a " + serverName + " /proc/1/exe"}}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // That it is started, and its word.
			if r, err := p.Hear(0); err != nil || r.Flags != 0 {
				t.Fatalf("the server: %+v, %v", r.Message, err)
			}
		}
		for _, b := range contract.Behaviours() {
			if b.Machine {
				continue
			}
			t.Run(b.Name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := b.Check(l.Peer(ctx, 1)); err != nil {
					t.Error(err)
				}
				if err := l.Faults(); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
