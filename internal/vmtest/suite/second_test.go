package suite

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// A machine with a second port moves records by it for several clients at once, and
// gives the range of one that has left in the middle to the next.
//
//holds:wire 13: a relay: the lease before the client's first frame, the range free at the acknowledgement and not before; a guest that never gives one
//holds:wire 14: the greeting's bytes; no ready before the answer; one port without the word, and towards hosts of 7
func TestSecondPort(t *testing.T) {
	ownOnly(t, "they do not have both ports, or count what the host sends")
	for _, kernel := range vmtest.Kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			h := share(t, sandbox.Config{Kernel: kernel, Generation: 8, MemoryMiB: 1024})
			if !h.Client().Agent().SecondPort {
				t.Fatal("there is no second port")
			}
			content := random(8<<20, 5)
			if err := h.Client().WriteFile(h.ctx, "/dev/shm/f", content, 0o600); err != nil {
				t.Fatal(err)
			}
			left := h.leaves(t)
			if err := together(4, func(int) error {
				g, done, err := h.dial()
				if err != nil {
					return err
				}
				defer done()
				got, err := g.Client().ReadFile(h.ctx, "/dev/shm/f")
				if err == nil && !bytes.Equal(got, content) {
					t.Errorf("%d bytes, want %d", len(got), len(content))
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if err := h.awaitSlot(left); err != nil {
				t.Error(err)
			}
			clientConn(t, h.guest)
			if said := h.said.take(); len(said) > 0 {
				t.Errorf("the relay says %q", said)
			}
		})
	}
}

// leaves is a client that goes away while the guest sends it a file, and where its
// range begins.
func (h *hub) leaves(t *testing.T) (start uint32) {
	t.Helper()
	b, err := h.bare()
	if err != nil {
		t.Fatal(err)
	}
	err = b.tell(b.start, &wire.FSRequest{Op: &wire.OpOpenFile{Path: "/dev/zero", Options: wire.OpenOptions{Read: true}}})
	e := wire.Envelope{}
	if err == nil {
		e, err = b.until(wire.TypeFSResponse)
	}
	if err != nil {
		t.Fatal(err)
	}
	handle, err := handleOf(e)
	if err == nil {
		err = b.tell(b.start+1, &wire.FSRequest{
			Op:   &wire.OpRead{Handle: handle},
			Bulk: &wire.BulkOffer{Format: 1, MaxRecordPayload: 16 << 10, GuestToHostCreditLimit: 32 << 20},
		})
	}
	if err == nil {
		_, err = b.frames.Next() // Records may be the first to come.
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	return b.start
}

// A machine whose host asks for a second port that it does not have says why it does
// not boot.
//
//holds:wire 14: the greeting's bytes; no ready before the answer; one port without the word, and towards hosts of 7
func TestSecondPortMissing(t *testing.T) {
	ownOnly(t, "they say so on the console")
	if !long() {
		t.Skip("the agent waits for the port for a minute: AGENTD_LONG=1")
	}
	start := time.Now()
	_, err := sandbox.Start(t.Context(), vmtest.Config(t, hooks.With(sandbox.Config{
		Kernel: vmtest.Kernels(t)[0],
	}, hooks.Machine{ExtraWords: []string{wire.SecondPortWord}})))
	if err == nil || !strings.Contains(err.Error(), "bulk transport binding failed") || !strings.Contains(err.Error(), `"agent-bulk"`) {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}
