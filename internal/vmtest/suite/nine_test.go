package suite

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// The relay keeps to the credit of an agent that counts: more input than fits it arrives
// whole, also beside another client whose command reads none. 0.7.2 ends at a byte too much.
//
//holds:wire 15: a relay keeps to the credit of the published agent; a client whose command reads nothing holds up itself alone
func TestRelayKeepsToCredit(t *testing.T) {
	if vmtest.Version() != "0.7.2" {
		t.Skip("only 0.7.2 counts what its host sends: AGENTD_CONFORMANCE=0.7.2")
	}
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		if !strings.HasPrefix(kernel, "krunfw-") {
			return // It starts from an initramfs, which only our own agent can.
		}
		socket := filepath.Join(t.TempDir(), "s")
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel, Configuration: sandbox.ByBootstrap, Socket: socket})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		deaf, err := client.Connect(ctx, socket)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = deaf.Close() }()
		const size = 36 << 20 // The credit is 32 MiB and 256 frames.
		sleeps := deaf.CommandContext(ctx, "sleep", "1000")
		sleeps.Stdin = strings.NewReader(strings.Repeat("x", size))
		if err := sleeps.Start(); err != nil {
			t.Fatal(err)
		}
		count := m.Client().CommandContext(ctx, "wc", "-c")
		count.Stdin = strings.NewReader(strings.Repeat("x", size))
		if out, err := count.Output(); err != nil || strings.TrimSpace(string(out)) != "37748736" {
			t.Errorf("%q, %v", out, err)
		}
		if _, err := m.Client().Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}
