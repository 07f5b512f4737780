package suite

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// TestRules asks machines for what agents of generation 9 must do, as their only host.
//
//holds:wire 12: what breaks a flow, and its answers, as the published 0.7.2 gives them
//holds:wire 15: every rule on credit, freeze and thaw, on machines and on the published 0.7.2
func TestRules(t *testing.T) {
	if v := vmtest.Version(); v != "" && v != "0.7.2" {
		t.Skipf("%s knows nothing of generation 9", v)
	}
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		if vmtest.Version() != "" && !strings.HasPrefix(kernel, "krunfw-") {
			return // It starts from an initramfs, which only our own agent can.
		}
		h := onlyHost(t, sandbox.Config{Kernel: kernel, Root: vmtest.ServerRoot(t)})
		for _, r := range contract.Rules() {
			t.Run(r.Name, func(t *testing.T) { judgeRule(t, h, r) })
		}
	})
}

// onlyHost starts a machine whose port belongs to the test from core.ready on, with a
// ping in the same write as core.init.ack, which counts.
func onlyHost(t *testing.T, cfg sandbox.Config) *contract.Host {
	t.Helper()
	tap := vmtest.NewTap()
	tap.Alone = true
	var err error
	const early = 1
	if tap.WithAck, err = wire.AppendFrame(nil, wire.Newest, early, &wire.Ping{}); err != nil {
		t.Fatal(err)
	}
	_, _ = vmtest.StartTapped(t, cfg, tap)
	h := tap.Host(t.Context())
	h.Sent.ControlBytes, h.Sent.ControlFrames = uint64(len(tap.WithAck)), 1
	h.ID()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, done := h.WithContext(ctx)
	defer done()
	if err := in.Put(in.ID(), &wire.Ping{}); err != nil {
		t.Fatal(err)
	}
	if err := in.Settle(wire.TransportCounters{}); err != nil {
		t.Fatalf("what came with the ack is not counted: %v", err)
	}
	server := in.ID()
	if err := in.Put(server, &wire.ExecRequest{Cmd: "server"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // That it is started, and its word.
		if r, err := in.Take(server); err != nil || r.Flags != 0 {
			t.Fatalf("the server: %s, %v", r.Type, err)
		}
	}
	return h
}

func judgeRule(t *testing.T, h *contract.Host, r contract.Rule) {
	t.Helper()
	if r.Own != "" {
		ownOnly(t, r.Own)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, done := h.WithContext(ctx)
	err := r.Check(in)
	done()
	verdict(t, r.Name, errors.Join(err, h.Faults()))
}
