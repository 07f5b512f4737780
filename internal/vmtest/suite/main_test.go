package suite

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

func TestMain(m *testing.M) { os.Exit(vmtest.Main(m)) }

// patience bounds one behaviour: the slowest takes some 15 s with software
// emulation on a host with other work.
const patience = 90 * time.Second

// A behaviour is one thing that a machine must do. Its error says what the
// machine did instead.
type behaviour struct {
	name  string
	check func(*guest) error
}

// A guest is a machine, and the time that a behaviour may take.
type guest struct {
	*vmtest.Machine
	ctx context.Context //nolint:containedctx // A behaviour is a value that many commands of one time belong to.
	as  *client.Client  // Asks in place of the machine's own, if there is one.
}

// Client returns the client that asks.
func (g *guest) Client() *client.Client {
	if g.as != nil {
		return g.as
	}
	return g.Machine.Client()
}

// slow are the behaviours that take seconds in emulation. What they show depends on
// neither the kernel nor the way a machine is told: each is asked for on each kernel
// and in each way, once; in every combination with AGENTD_LONG=1.
var slow = []string{
	"every code of 500 commands", "1000 orphans", "volume", "silent reader delays nobody",
	"output of a slow listener", "service with the output does not delay", "flood delays nobody",
}

// expect starts a machine for each combination and asks for the behaviours.
func expect(t *testing.T, cfg sandbox.Config, all []behaviour) {
	t.Helper()
	for _, c := range vmtest.Combinations(t) {
		// One kernel is told in the one way and the other in the other.
		once := strings.HasPrefix(c.Kernel, "krunfw-") == (c.Configuration == sandbox.ByEnvironment)
		patient := long() || vmtest.Version() != "" || once
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			m := vmtest.Start(t, c.Config(cfg))
			for _, b := range all {
				if !patient && slices.Contains(slow, b.name) {
					t.Logf("not asked here without AGENTD_LONG=1: %s", b.name)
					continue
				}
				t.Run(b.name, func(t *testing.T) { b.judge(t, m) })
				if err := m.Client().Err(); err != nil {
					t.Fatalf("the machine is gone: %v", err)
				}
			}
		})
	}
}

// judge asks for one behaviour, or for its absence where the agent under test is
// known to differ.
func (b behaviour) judge(t *testing.T, m *vmtest.Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	verdict(t, b.name, b.check(&guest{Machine: m, ctx: ctx}))
}

// verdict judges what a behaviour came to.
func verdict(t *testing.T, name string, err error) {
	t.Helper()
	why, differs := differences[vmtest.Version()][name]
	switch {
	case differs && err == nil:
		t.Errorf("agent %s is listed as different (%s) and is not", vmtest.Version(), why)
	case differs:
		t.Logf("different as listed (%s): %v", why, err)
	case err != nil:
		t.Error(err)
	}
}

// ownOnly skips a test of what only our agent does.
func ownOnly(t *testing.T, why string) {
	t.Helper()
	if vmtest.Version() != "" {
		t.Skipf("not asked of a published agent: %s", why)
	}
}

func TestDifferencesAreBehaviours(t *testing.T) {
	known := map[string]bool{}
	var names []string
	for _, b := range append(behaviours(), boundBehaviours()...) {
		names = append(names, b.name)
	}
	for _, b := range contract.Behaviours() {
		names = append(names, b.Name)
	}
	for _, name := range names {
		if known[name] {
			t.Errorf("two behaviours are named %q", name)
		}
		known[name] = true
	}
	for _, name := range slow {
		if !known[name] {
			t.Errorf("slow: %q is no behaviour", name)
		}
	}
	for version, list := range differences {
		for name, why := range list {
			if !known[name] || why == "" {
				t.Errorf("difference of %s: %q is no behaviour, or has no reason", version, name)
			}
		}
	}
}
