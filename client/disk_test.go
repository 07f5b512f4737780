package client_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

func TestGrowRoot(t *testing.T) {
	script(t, 9, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(&wire.RootDiskPrepare{SizeBytes: 128 << 20})
			p.send(id, &wire.RootDiskState{FilesystemBytes: 64 << 20, DeviceBytes: 64 << 20})
			id = p.expect(&wire.RootDiskGrow{SizeBytes: 128 << 20})
			p.send(id, &wire.RootDiskState{FilesystemBytes: 128 << 20, DeviceBytes: 129 << 20})
		})
		is, err := c.CheckRootGrowth(t.Context(), 128<<20)
		if want := (client.RootDisk{FileSystem: 64 << 20, Device: 64 << 20}); is != want || err != nil {
			t.Errorf("before: %+v, %v", is, err)
		}
		is, err = c.GrowRoot(t.Context(), 128<<20)
		if want := (client.RootDisk{FileSystem: 128 << 20, Device: 129 << 20}); is != want || err != nil {
			t.Errorf("after: %+v, %v", is, err)
		}
		wait()
	})
}

// A guest's refusal is a typed error with its words, and the link goes on.
func TestGrowRootRefused(t *testing.T) {
	script(t, 9, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(&wire.RootDiskGrow{SizeBytes: 1})
			p.send(id, &wire.ProtocolError{
				Kind: wire.ErrorUnavailable, Message: "root has no pinned block filesystem", OffendingType: wire.TypeRootDiskGrow,
			})
			id = p.expect(&wire.RootDiskGrow{SizeBytes: 2})
			p.send(id, new(wire.Pong))
			id = p.expect(&wire.RootDiskGrow{SizeBytes: 3})
			p.send(id, &wire.RootDiskState{FilesystemBytes: math.MaxUint64})
			p.send(p.expect(new(wire.Ping)), new(wire.Pong))
		})
		_, err := c.GrowRoot(t.Context(), 1)
		var refused *client.ProtocolError
		if !errors.As(err, &refused) || refused.Kind != client.KindUnavailable || !strings.Contains(err.Error(), "no pinned") {
			t.Errorf("refused: %v", err)
		}
		for size := int64(2); size < 4; size++ {
			var broken *client.FrameError
			if _, err = c.GrowRoot(t.Context(), size); !errors.As(err, &broken) {
				t.Errorf("size %d: %v", size, err)
			}
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
		if _, err = c.GrowRoot(t.Context(), -1); err == nil || !strings.Contains(err.Error(), "-1") {
			t.Errorf("negative: %v", err)
		}
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go p.ignore()
		if _, err = c.GrowRoot(late, 4); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
	})
}

func TestGrowRootOfOlderAgent(t *testing.T) {
	script(t, 8, func(c *client.Client, p *peer) {
		t := p.t
		var old *client.GenerationError
		if _, err := c.GrowRoot(t.Context(), 4096); !errors.As(err, &old) || old.Needs != 9 || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v", err)
		}
	})
}
