package suite

import (
	"context"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// The relay keeps to the credit of an agent that counts: more input than fits it arrives
// whole. 0.7.2 ends at a byte too much.
//
//holds:wire 15: a relay keeps to the credit of the published agent
func TestRelayKeepsToCredit(t *testing.T) {
	if vmtest.Version() != "0.7.2" {
		t.Skip("only 0.7.2 counts what its host sends: AGENTD_CONFORMANCE=0.7.2")
	}
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		if !strings.HasPrefix(kernel, "krunfw-") {
			return // It starts from an initramfs, which only our own agent can.
		}
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel, Configuration: sandbox.ByBootstrap})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		const size = 36 << 20 // The credit is 32 MiB and 256 frames.
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
