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

// every byte of the messages that belong to no command.
func TestControlBytes(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			p.expectBytes(ping)
			p.write(golden(t, 1, pong))
			p.expectBytes(touch[:14] + "02" + touch[16:]) // The next id.
			p.write(golden(t, 2, touched122))
			p.expectBytes(clockSync)
			p.expectBytes(shutdown)
		})
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if seq, err := c.Touch(t.Context()); seq != 122 || err != nil {
			t.Errorf("Touch = %d, %v", seq, err)
		}
		if err := c.SyncClock(t.Context(), time.Unix(1795464998, 0)); err != nil {
			t.Error(err)
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
		if v := c.Agent().Version; v != "1.2.3" {
			t.Errorf("agent version %q", v)
		}
	})
}

func TestPingMeasuresTime(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(new(wire.Ping))
			<-time.After(30 * time.Millisecond)
			p.send(id, new(wire.Pong))
		})
		if d, err := c.Ping(t.Context()); d != 30*time.Millisecond || err != nil {
			t.Errorf("Ping = %v, %v", d, err)
		}
		wait()
	})
}

// A context ends a call whose answer does not come; when it comes after all, it
// disturbs nobody.
func TestPingContext(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wait := background(func() {
			late := p.expect(new(wire.Ping))
			id := p.expect(new(wire.Ping))
			p.send(late, new(wire.Pong))
			p.send(id, new(wire.Pong))
		})
		if _, err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping = %v", err)
		}
		if _, err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping with a context that is done = %v", err)
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
	})
}

func TestGenerations(t *testing.T) {
	for _, tt := range []struct{ agent, inForce wire.Generation }{{1, 1}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {9, wire.Newest}, {255, wire.Newest}} {
		script(t, tt.agent, func(c *client.Client, p *peer) {
			t := p.t
			if got := c.Generation(); got != int(tt.inForce) {
				t.Errorf("agent of %d: generation %d in force, want %d", tt.agent, got, tt.inForce)
			}
			if tt.agent >= 6 {
				return
			}
			_, err := c.Touch(t.Context())
			var low *client.GenerationError
			if !errors.As(err, &low) {
				t.Fatalf("agent of %d: Touch = %v", tt.agent, err)
			}
			if low.Needs != 6 || low.Have != int(tt.agent) || low.Message != string(wire.TypeTouch) {
				t.Errorf("agent of %d: %+v", tt.agent, low)
			}
			// Nothing was sent for it, and the link still works.
			wait := background(func() { p.expect(&wire.ClockSync{UnixTimeNanos: 1}) })
			if err := c.SyncClock(t.Context(), time.Unix(0, 1)); err != nil {
				t.Error(err)
			}
			wait()
		})
	}
}

func TestLinkEnds(t *testing.T) {
	tests := []struct {
		name string
		end  func(p *peer)
		want error // In the LinkError.
	}{
		{"closed", func(p *peer) { _ = p.conn.Close() }, io.EOF},
		{"inside a frame", func(p *peer) { p.write([]byte{0, 0, 0, 9, 0}); _ = p.conn.Close() }, io.ErrUnexpectedEOF},
		{"length too large", func(p *peer) { p.write([]byte{255, 255, 255, 255}) }, &frame.LengthError{Length: 1<<32 - 1}},
		{"length too small", func(p *peer) { p.write([]byte{0, 0, 0, 4, 0, 0, 0, 1, 0}) }, &frame.LengthError{Length: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script(t, 7, func(c *client.Client, p *peer) {
				t := p.t
				if c.Err() != nil {
					t.Errorf("Err of a living link = %v", c.Err())
				}
				wait := background(func() {
					p.begin()
					p.expect(new(wire.Ping))
					tt.end(p)
				})
				cmd := c.Command("sleep")
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				check := func(what string, err error) {
					t.Helper()
					var link *client.LinkError
					if !errors.As(err, &link) || link.Err.Error() != tt.want.Error() {
						t.Errorf("%s = %v, want %v", what, err, tt.want)
					}
					if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%s = %v, which readers take for the end of a file", what, err)
					}
				}
				_, err := c.Ping(t.Context())
				check("Ping", err)
				check("Wait", cmd.Wait())
				<-c.Done()
				check("Err", c.Err())
				check("Start", c.Command("x").Start())
				wait()
			})
		})
	}
}

// mute is a link that can be read and not written.
type mute struct {
	net.Conn
	err error
}

func (m mute) Write([]byte) (int, error) { return 0, m.err }

// A link that breaks while it is written ends everything alike.
func TestWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		broken := errors.New("broken link")
		c := client.New(&client.Greeting{Link: mute{near, broken}, Generation: 7}, client.IDs{})
		for range 3 {
			if _, err := c.Ping(t.Context()); !errors.Is(err, broken) {
				t.Errorf("Ping = %v", err)
			}
		}
		<-c.Done()
		var link *client.LinkError
		if err := c.Shutdown(t.Context()); !errors.As(err, &link) || err.Error() != "agent link ended: broken link" {
			t.Errorf("Shutdown = %v", err)
		}
		if err := c.Command("x").Run(); !errors.Is(err, broken) {
			t.Errorf("Run = %v", err)
		}
		_ = far.Close()
		_ = c.Close()
	})
}

// A relay tells the time itself, and would disconnect a client that does.
func TestSyncClockBehindARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := client.New(&client.Greeting{Link: near, Generation: 7}, client.IDs{Start: 10, End: 13})
		if err := c.SyncClock(t.Context(), time.Unix(1, 0)); !errors.Is(err, client.ErrRelayed) {
			t.Errorf("SyncClock = %v", err)
		}
		_ = far.Close()
		_ = c.Close()
	})
}

func TestSyncClockRefusesNonsense(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		if err := c.SyncClock(t.Context(), time.Time{}); err == nil {
			t.Error("the year 1 was sent")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.SyncClock(ctx, time.Unix(1, 0)); !errors.Is(err, context.Canceled) {
			t.Errorf("SyncClock with a context that is done = %v", err)
		}
		wait := background(func() {
			if f, ok := p.next(); ok {
				t.Errorf("client sent flags %v", f.Flags)
			}
		})
		_ = c.Close()
		wait()
	})
}

func TestClose(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.begin()
			if got := p.expect(&wire.ExecSignal{Signal: 9}); got != id {
				t.Errorf("signal on id %d, want %d", got, id)
			}
		})
		cmd := c.Command("sleep")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // The end of the input has left.
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if err := cmd.Wait(); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Wait = %v", err)
		}
		if _, err := c.Ping(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Ping = %v", err)
		}
		if !errors.Is(c.Err(), client.ErrClosed) {
			t.Errorf("Err = %v", c.Err())
		}
	})
}

// A link that takes nothing does not hold up Close for longer than it says, and
// what is queued for it has a bound.
func TestStalledLink(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		var err error
		n := 0
		for err == nil && n < 10_000 {
			err = c.SyncClock(t.Context(), time.Unix(0, 1))
			n++
		}
		if !errors.Is(err, client.ErrStalled) {
			t.Errorf("after %d messages: %v", n, err)
		}
		begin := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d != time.Second {
			t.Errorf("Close took %v", d)
		}
	})
}

// What an agent must not send ends the call that it is for, with a clear error,
// and nothing else.
func TestHostileAnswers(t *testing.T) {
	tests := []struct {
		name string
		send func(p *peer, id uint32)
		want string
	}{
		{"wrong answer", func(p *peer, id uint32) { p.send(id, &wire.Touched{ActivitySeq: 1}) }, "bad core.touched from agent: message out of place"},
		{"garbage", func(p *peer, id uint32) { p.raw(id, frame.Terminal, "garbage") }, "bad frame from agent: decode envelope: "},
		{"empty body", func(p *peer, id uint32) { p.raw(id, 0, "") }, "bad frame from agent: decode envelope: "},
		{"unknown type", func(p *peer, id uint32) { p.raw(id, 0, "\xa3\x61v\x07\x61t\x63new\x61p\x41\xa0") }, "bad new from agent: unknown message type new"},
		{"flags", func(p *peer, id uint32) { p.raw(id, 0, "\xa3\x61v\x07\x61t\x69core.pong\x61p\x41\xa0") }, "bad core.pong from agent: flags 0, want terminal"},
		{"payload", func(p *peer, id uint32) { p.raw(id, 1, "\xa3\x61v\x07\x61t\x69core.pong\x61p\x41\xf6") }, "bad core.pong from agent: "},
		{"bulk record", func(p *peer, id uint32) { p.raw(id, frame.Bulk, "\x01\x02") }, "bad frame from agent: "},
		{"refusal", func(p *peer, id uint32) { p.write(golden(p.t, id, badFlags)) }, "agent refused core.exec.signal: invalid_flags: invalid flags for core.exec.signal: got 1, expected 0"},
		{"bad refusal", func(p *peer, id uint32) { p.raw(id, 1, "\xa3\x61v\x07\x61t\x6acore.error\x61p\x41\xa0") }, "bad core.error from agent: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script(t, 7, func(c *client.Client, p *peer) {
				t := p.t
				wait := background(func() {
					other := p.begin()
					id := p.expect(new(wire.Ping))
					p.send(id+100, new(wire.Pong)) // Nobody's.
					p.raw(0, 0, "nobody's garbage")
					p.raw(0xFFFFFFFF, frame.Terminal, "")
					tt.send(p, id)
					p.send(id, new(wire.Pong)) // Once more.
					p.send(other, new(wire.ExecExited))
				})
				other := c.Command("true")
				if err := other.Start(); err != nil {
					t.Fatal(err)
				}
				_, err := c.Ping(t.Context())
				if err == nil || !startsWith(err.Error(), tt.want) {
					t.Errorf("Ping = %v, want %s…", err, tt.want)
				}
				if err := other.Wait(); err != nil {
					t.Errorf("another call: %v", err)
				}
				wait()
			})
		})
	}
}

func startsWith(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

// Ids go upwards from the start, wrap, and skip those in use.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := client.New(&client.Greeting{Link: near, Generation: 7}, client.IDs{Start: 10, End: 13})
		p := &peer{t: t, conn: far, frames: frame.NewReader(far)}
		var ids []uint32
		wait := background(func() {
			long := p.begin()
			ids = append(ids, long)
			for range 4 {
				id := p.expect(new(wire.Ping))
				ids = append(ids, id)
				p.send(id, new(wire.Pong))
			}
			first, second := p.expect(new(wire.Ping)), p.expect(new(wire.Ping))
			// Two callers at once: either may be sent first.
			ids = append(ids, min(first, second), max(first, second))
			synctest.Wait()
			if _, err := c.Ping(t.Context()); !errors.Is(err, client.ErrNoID) {
				t.Errorf("Ping without a free id = %v", err)
			}
			p.send(first, new(wire.Pong))
			p.send(second, new(wire.Pong))
			p.send(long, new(wire.ExecExited))
		})
		cmd := c.Command("long")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if _, err := c.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		}
		both := make(chan error)
		for range 2 {
			go func() {
				_, err := c.Ping(t.Context())
				both <- err
			}()
		}
		for range 2 {
			if err := <-both; err != nil {
				t.Error(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		wait()
		for i, want := range []uint32{10, 11, 12, 11, 12, 11, 12} {
			if ids[i] != want {
				t.Fatalf("ids %v: %d at %d, want %d", ids, ids[i], i, want)
			}
		}
		_ = far.Close()
		_ = c.Close()
	})
}

func TestNoIDs(t *testing.T) {
	for _, ids := range []client.IDs{{Start: 5, End: 5}, {Start: 6, End: 5}, {Start: 0, End: 5}} {
		near, far := pipe()
		c := client.New(&client.Greeting{Link: near, Generation: 7}, ids)
		if err := c.Command("x").Run(); !errors.Is(err, client.ErrNoID) {
			t.Errorf("%v: %v", ids, err)
		}
		_ = far.Close()
		_ = c.Close()
	}
}
