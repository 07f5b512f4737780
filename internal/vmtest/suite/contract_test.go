package suite

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// The slots of raw clients: the machine's own client has the first.
const (
	askingSlot = 1
	serverSlot = 100
)

// TestContract asks machines, by raw frames, for what every agent must do with
// files, connections and the protocol's core.
//
//holds:boot 23: wrong flags are answered on the id, and the agent goes on
//holds:wire 1: nothing between `core.ready` and the host's first frame
//holds:wire 2: a bad length ends only what cannot be saved; the reason once
//holds:wire 7: `core.ready` once, its fields
//holds:wire 12: a host of generation 7 sees nothing of it
func TestContract(t *testing.T) {
	for _, c := range vmtest.Combinations(t) {
		if vmtest.Version() == "" && c.Configuration != sandbox.ByBootstrap {
			continue // What configured the machine makes no difference to a frame.
		}
		t.Run(c.Kernel, func(t *testing.T) {
			t.Parallel()
			tap := vmtest.NewTap()
			tap.Quiet = 300 * time.Millisecond // Emulated, an agent that says more does it in a fraction of that.
			// The contract is that of the published agents of generation 7; what 8 changes
			// for a client that leaves is asked of our own in namespaces.
			const generation = 7
			m, _ := vmtest.StartTapped(t, c.Config(sandbox.Config{Root: vmtest.ServerRoot(t), Generation: generation}), tap)
			if n := tap.Early(); n > 0 {
				t.Errorf("%d frames between core.ready and the host's first word", n)
			}
			ready(t, m.Client().Agent())
			serve(t, tap)
			for _, b := range contract.Behaviours() {
				t.Run(b.Name, func(t *testing.T) { judgeContract(t, tap, b) })
				if err := m.Client().Err(); err != nil {
					t.Fatalf("the machine is gone: %v", err)
				}
			}
			if vmtest.Version() == "" {
				badLength(t, m, tap)
			}
		})
	}
}

// ready checks core.ready.
func ready(t *testing.T, r client.AgentInfo) {
	t.Helper()
	if r.Started == 0 || r.Setup == 0 || r.Ready < r.Started+r.Setup || r.Version == "" {
		t.Errorf("core.ready says %+v", r)
	}
}

// badLength ends the machine: nothing says where the next frame would begin. The
// console has the reason, once.
func badLength(t *testing.T, m *vmtest.Machine, tap *vmtest.Tap) {
	t.Helper()
	if err := tap.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	m.AwaitEnd()
	if n := bytes.Count(m.Console(), []byte("length 4")); n != 1 {
		t.Errorf("the console gives the reason %d times:\n%s", n, m.Console())
	}
}

// serve starts the program that serves connections.
func serve(t *testing.T, tap *vmtest.Tap) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := tap.Peer(ctx, serverSlot)
	if err := p.Send(0, &wire.ExecRequest{Cmd: "server"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // That it is started, and its word.
		if r, err := p.Hear(0); err != nil || r.Flags != 0 {
			t.Fatalf("the server: %s, %v", r.Type, err)
		}
	}
}

// judgeContract asks for one behaviour, as [behaviour.judge] does.
func judgeContract(t *testing.T, tap *vmtest.Tap, b contract.Behaviour) {
	t.Helper()
	if b.Own != "" {
		ownOnly(t, b.Own)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := tap.Peer(ctx, askingSlot)
	err := b.Check(p)
	err = errors.Join(err, tap.Faults())
	verdict(t, b.Name, err)
	if err != nil {
		forget(t, tap)
	}
}

// forget drops the leftover frames of a behaviour, so that the next one does not get
// them.
func forget(t *testing.T, tap *vmtest.Tap) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := tap.Peer(ctx, askingSlot)
	if _, err := p.Say("sleep 0.5"); err != nil { // Time for late answers.
		t.Error(err)
	}
	tap.Drop(p.All())
	tap.Drop(p.Other().All())
	_ = tap.Faults() // Of what was left.
}
