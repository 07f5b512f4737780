package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// boots runs a handshake against an agent that play is.
func boots(t *testing.T, h client.Handshake, play func(p *peer)) (c *client.Client, err error) {
	t.Helper()
	near, far := net.Pipe()
	wait := background(func() {
		play(&peer{t: t, conn: far, frames: frame.NewReader(far)})
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err = client.Boot(ctx, near, h)
	wait()
	if err != nil {
		if _, e := near.Write([]byte{0}); !errors.Is(e, io.ErrClosedPipe) {
			t.Errorf("the link of a boot that failed takes more: %v", e)
		}
	}
	_ = far.Close()
	return c, err
}

func hears[M wire.Message](p *peer) {
	f, ok := p.next()
	if !ok {
		return
	}
	if m, ok := p.message(f).(M); !ok {
		p.t.Errorf("the agent hears %T", m)
	}
}

func TestBoot(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]client.Handshake{"by message": {Bootstrap: &wire.Bootstrap{}}, "by variables": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var user wire.User
				h.Resolved = func(u wire.User) { user = u }
				c, err := boots(t, h, func(p *peer) {
					if h.Bootstrap != nil {
						hears[*wire.Bootstrap](p)
					}
					p.send(0, &wire.InitResolved{DefaultUser: wire.User{UID: 7, GID: 8}})
					hears[*wire.InitAck](p)
					if user.UID != 7 {
						t.Errorf("acknowledged before the user %+v was known", user)
					}
					ready, _ := wire.AppendFrame(nil, 7, 0, &wire.Ready{AgentVersion: "1.2.3"})
					more, _ := wire.AppendFrame(ready, 8, 1, &wire.ExecStarted{PID: 1}) // Nobody's: it must do no harm.
					if _, err := p.conn.Write(more); err != nil {
						t.Error(err)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if c.Generation() != 7 || c.Agent().Version != "1.2.3" {
					t.Errorf("generation %d, ready %+v", c.Generation(), c.Agent())
				}
			})
		})
	}
}

func TestBootFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		play func(p *peer)
		want error
	}{
		"refused": {func(p *peer) {
			p.send(0, &wire.ProtocolError{Kind: wire.ErrorInitialization, InitFailure: wire.InitUserNotFound, Message: "no user"})
		}, &client.InitError{Message: "no user", Failure: "user_not_found"}},
		"out of order":    {func(p *peer) { p.send(0, &wire.Ready{}) }, nil},
		"ended":           {func(p *peer) { _ = p.conn.Close() }, io.ErrUnexpectedEOF},
		"no answer":       {func(*peer) {}, context.DeadlineExceeded},
		"no frame at all": {func(p *peer) { _, _ = p.conn.Write([]byte{0xff, 0, 0, 0, 0, 0, 0, 0, 0}) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := boots(t, client.Handshake{Bootstrap: &wire.Bootstrap{}}, func(p *peer) {
					hears[*wire.Bootstrap](p)
					tt.play(p)
				})
				if err == nil {
					t.Fatal("it booted", c.Agent())
				}
				if refused, ok := tt.want.(*client.InitError); ok { //nolint:errorlint // The row's own.
					if got, ok := errors.AsType[*client.InitError](err); !ok || *got != *refused {
						t.Errorf("got %v", err)
					}
				} else if tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}
