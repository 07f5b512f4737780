package client_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

func TestContextKills(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithCancel(t.Context())
		wait := background(func() {
			id := p.begin()
			cancel()
			p.expect(&wire.ExecSignal{Signal: 9})
			p.send(id, &wire.ExecExited{Code: -1})
			id = p.begin()
			p.send(id, new(wire.ExecExited))
		})
		var exit *client.ExitError
		if err := c.CommandContext(ctx, "x").Run(); !errors.As(err, &exit) || !exit.Signaled {
			t.Errorf("Run = %v", err)
		}
		if err := c.CommandContext(ctx, "x").Run(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run with a context that is done = %v", err)
		}
		// A context that ends later than the command says nothing about it.
		later, cancel := context.WithCancel(t.Context())
		if err := c.CommandContext(later, "x").Run(); err != nil {
			t.Error(err)
		}
		cancel()
		wait()
	})
}

// A command that ends with code 0 although its context has ended was interrupted.
func TestContextAndSuccess(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithCancel(t.Context())
		wait := background(func() {
			id := p.begin()
			cancel()
			p.expect(&wire.ExecSignal{Signal: 15})
			p.send(id, new(wire.ExecExited))
		})
		cmd := c.CommandContext(ctx, "x")
		cmd.Cancel = func() error { return cmd.Signal(15) }
		if err := cmd.Run(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		wait()
	})
}

// Cancel is mild and of no use, signal 9 too: Wait returns all the same.
func TestWaitDelay(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		wait := background(func() {
			id := p.begin()
			cancel()
			p.expect(&wire.ExecSignal{Signal: 15})
			p.expect(&wire.ExecSignal{Signal: 9})
			if d := time.Since(begin); d != time.Second {
				t.Errorf("signal 9 after %v", d)
			}
			p.expect(&wire.ExecSignal{Signal: 9}) // On giving up.
			p.send(id, &wire.ExecStdout{Data: []byte("late")})
			p.send(id, &wire.ExecExited{Code: -1})
		})
		cmd := c.CommandContext(ctx, "x")
		cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Signal(15) }, time.Second
		err := cmd.Run()
		if !errors.Is(err, context.Canceled) || !errors.Is(err, client.ErrWaitDelay) {
			t.Errorf("Run = %v", err)
		}
		if d := time.Since(begin); d != 2*time.Second {
			t.Errorf("Run took %v", d)
		}
		wait()
	})
}

// What Cancel says about the command's end, when the command then succeeds.
func TestCancelErrors(t *testing.T) {
	broken := errors.New("broken cancel")
	for _, tt := range []struct{ cancel, want error }{{nil, context.Canceled}, {os.ErrProcessDone, nil}, {broken, broken}} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			ctx, cancel := context.WithCancel(t.Context())
			wait := background(func() {
				id := p.begin()
				cancel()
				synctest.Wait()
				p.send(id, new(wire.ExecExited))
			})
			cmd := c.CommandContext(ctx, "x")
			cmd.Cancel = func() error { return tt.cancel }
			if err := cmd.Run(); !errors.Is(err, tt.want) {
				t.Errorf("Cancel = %v: Run = %v", tt.cancel, err)
			}
			wait()
		})
	}
}

// A command that fails to start after it was said to run has a StartError all the
// same.
func TestFailedAfterStarted(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			p.send(p.begin(), &wire.ExecFailed{Kind: wire.FailurePTYSetup, Message: "no terminal"})
		})
		var failed *client.StartError
		if err := c.Command("x").Run(); !errors.As(err, &failed) || err.Error() != "start command: no terminal" {
			t.Errorf("Run = %v", err)
		}
		wait()
	})
}

// Without a WaitDelay, a killed command has ten seconds.
func TestKillWait(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		wait := background(func() {
			p.begin()
			p.expect(&wire.ExecSignal{Signal: 9})
			p.expect(&wire.ExecSignal{Signal: 9})
		})
		if err := c.CommandContext(ctx, "x").Run(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v", err)
		}
		if d := time.Since(begin); d != 11*time.Second {
			t.Errorf("Run took %v", d)
		}
		wait()
	})
}

// The context ends before the agent says anything; if the command starts after
// all, it is killed then.
func TestContextBeforeStarted(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wait := background(func() {
			id, _ := p.request()
			p.expect(&wire.ExecSignal{Signal: 9})
			p.send(id, &wire.ExecStarted{PID: 1})
			p.expect(&wire.ExecSignal{Signal: 9})
			p.send(id, &wire.ExecStdout{Data: []byte("late")})
			p.send(id, &wire.ExecExited{Code: -1})
		})
		if err := c.CommandContext(ctx, "x").Start(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start = %v", err)
		}
		wait()
	})
}
