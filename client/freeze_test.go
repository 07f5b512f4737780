package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// counting plays against a client whose agent counts what it is sent.
func counting(t *testing.T, play func(c *client.Client, p *peer)) {
	t.Helper()
	v := uint8(wire.BarrierVersion)
	scriptReady(t, wire.BarrierSince, wire.Ready{WorkloadTransportBarrierVersion: &v}, play)
}

// freezes reads a freeze and returns its counters.
func (p *peer) freezes(attempt string) wire.TransportCounters {
	p.t.Helper()
	f, _ := p.next()
	m, ok := p.message(f).(*wire.WorkloadFreeze)
	if !ok || f.ID != wire.WorkloadID || m.AttemptID != attempt {
		p.t.Errorf("%+v, want a freeze", m)
		return wire.TransportCounters{}
	}
	return m.HostInput
}

func (p *peer) thaws(attempt string, mode wire.ThawMode) {
	p.t.Helper()
	if id := p.expect(&wire.WorkloadThaw{AttemptID: attempt, Mode: mode}); id != wire.WorkloadID {
		p.t.Errorf("a thaw on id %d", id)
	}
}

func (p *peer) refuses(of wire.Type, kind wire.ErrorKind, left string) {
	p.send(wire.WorkloadID, &wire.ProtocolError{
		Kind: kind, Message: "no", OffendingType: of, WorkloadFailure: &wire.WorkloadFailure{AttemptID: "a", Disposition: left},
	})
}

// A freeze states what was sent, to the byte, and nothing is sent until the thaw.
func TestFreeze(t *testing.T) {
	counting(t, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(new(wire.Ping))
			p.send(id, new(wire.Pong))
			const length = 29 // Of a ping's frame.
			if got, want := p.freezes("a"), (wire.TransportCounters{ControlBytes: length, ControlFrames: 1}); got != want {
				t.Errorf("counters %+v, want %+v", got, want)
			}
			p.send(wire.WorkloadID, &wire.WorkloadFrozen{AttemptID: "a", InputCredit: wire.FirstCredit(), ExternalMountsSynced: true})
			p.thaws("a", wire.ThawContinue)
			p.send(wire.WorkloadID, &wire.WorkloadTransportCredit{TransportCounters: wire.FirstCredit()})
			p.send(wire.WorkloadID, &wire.WorkloadThawed{AttemptID: "a"})
			id = p.expect(new(wire.Touch)) // It has waited.
			p.send(id, &wire.Touched{ActivitySeq: 1})
		})
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if f, err := c.Freeze(t.Context(), "a", "share"); err != nil || !f.Synced {
			t.Errorf("%+v, %v", f, err)
		}
		touched := make(chan error, 1)
		go func() {
			_, err := c.Touch(t.Context())
			touched <- err
		}()
		synctest.Wait()
		if err := c.Thaw(t.Context(), "a", client.ThawContinue); err != nil {
			t.Error(err)
		}
		if err := <-touched; err != nil {
			t.Error(err)
		}
		wait()
	})
}

// A refused freeze, and one that is given up, leave nothing stopped.
func TestFreezeFails(t *testing.T) {
	counting(t, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			p.freezes("a")
			p.refuses(wire.TypeWorkloadFreeze, wire.ErrorUnavailable, "unavailable")
			p.thaws("a", wire.ThawContinue)
			p.refuses(wire.TypeWorkloadThaw, wire.ErrorInvalidSession, "recovery_required")
			p.freezes("b") // No answer before the deadline.
			p.thaws("b", wire.ThawContinue)
			p.refuses(wire.TypeWorkloadFreeze, wire.ErrorInvalidSession, "recovery_required")
			p.send(wire.WorkloadID, &wire.WorkloadThawed{AttemptID: "b"})
			p.send(p.expect(new(wire.Ping)), new(wire.Pong))
		})
		var refused *client.ProtocolError
		_, err := c.Freeze(t.Context(), "a")
		if !errors.As(err, &refused) || refused.Kind != client.KindUnavailable || refused.Disposition != "unavailable" {
			t.Errorf("refused: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Freeze(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up: %v", err)
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// A second freeze is refused while the first one holds; the first one stays in force.
func TestFreezeTwice(t *testing.T) {
	counting(t, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			p.freezes("a")
			p.send(wire.WorkloadID, &wire.WorkloadFrozen{AttemptID: "a", InputCredit: wire.FirstCredit()})
			p.freezes("b")
			p.refuses(wire.TypeWorkloadFreeze, wire.ErrorInvalidSession, "recovery_required")
			p.thaws("b", wire.ThawContinue)
			p.refuses(wire.TypeWorkloadThaw, wire.ErrorInvalidSession, "recovery_required")
			p.thaws("a", wire.ThawContinue) // For the end of the machine.
			p.send(wire.WorkloadID, &wire.WorkloadThawed{AttemptID: "a"})
			p.expect(new(wire.Shutdown))
		})
		if f, err := c.Freeze(t.Context(), "a"); err != nil || f.Synced {
			t.Errorf("%+v, %v", f, err)
		}
		if _, err := c.Freeze(t.Context(), "b"); err == nil {
			t.Error("frozen twice")
		}
		if err := c.Thaw(t.Context(), "b", client.ThawContinue); err == nil {
			t.Error("thawed by a name that is not in force")
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// A restore ends what was under way, and frees the ids.
func TestThawRestores(t *testing.T) {
	counting(t, func(c *client.Client, p *peer) {
		t := p.t
		cmd := c.Command("sleep")
		begun := make(chan struct{})
		wait := background(func() {
			p.begin()
			close(begun)
			p.freezes("a")
			p.send(wire.WorkloadID, &wire.WorkloadFrozen{AttemptID: "a", InputCredit: wire.FirstCredit()})
			p.thaws("a", wire.ThawRestore)
			p.send(wire.WorkloadID, &wire.WorkloadThawed{AttemptID: "a"})
			for { // The signal to the command, for nobody, may come first.
				f, ok := p.next()
				if _, ping := p.message(f).(*wire.Ping); ping || !ok {
					p.send(f.ID, new(wire.Pong))
					return
				}
			}
		})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-begun
		if _, err := c.Freeze(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if err := c.Thaw(t.Context(), "a", client.ThawRestore); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); !errors.Is(err, client.ErrRestored) {
			t.Errorf("the command ends with %v", err)
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// Only a guest's only host freezes it, and only one that can be frozen.
func TestFreezeIsImpossible(t *testing.T) {
	script(t, 8, func(c *client.Client, p *peer) {
		var old *client.GenerationError
		if _, err := c.Freeze(p.t.Context(), "a"); !errors.As(err, &old) || old.Needs != 9 {
			p.t.Errorf("generation 8: %v", err)
		}
	})
	script(t, 9, func(c *client.Client, p *peer) {
		var refused *client.ProtocolError
		if _, err := c.Freeze(p.t.Context(), "a"); !errors.As(err, &refused) || refused.Kind != client.KindUnavailable {
			p.t.Errorf("without a barrier: %v", err)
		}
	})
	near, far := pipe()
	start, end := frame.SlotRange(3)
	c := client.New(&client.Greeting{Link: near, Generation: 9}, client.IDs{Start: start, End: end})
	if _, err := c.Freeze(t.Context(), "a"); !errors.Is(err, client.ErrRelayed) {
		t.Errorf("through a relay: %v", err)
	}
	if err := c.Thaw(t.Context(), "a", client.ThawContinue); !errors.Is(err, client.ErrRelayed) {
		t.Errorf("through a relay: %v", err)
	}
	_ = far.Close()
	_ = c.Close()
}
