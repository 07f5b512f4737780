package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// links makes one link for each script of a peer, and ends it when the script returns. After
// the last one no link is made.
func links(t *testing.T, scripts ...func(p *peer)) client.Dialer {
	t.Helper()
	return func(context.Context) (*client.Client, error) {
		if len(scripts) == 0 {
			return nil, errors.New("nobody there")
		}
		play := scripts[0]
		scripts = scripts[1:]
		near, far := net.Pipe()
		c := client.New(&client.Greeting{Link: near, Ready: keeps, Generation: 7}, client.IDs{})
		go func() {
			play(&peer{t: t, conn: far, frames: frame.NewReader(far)})
			_ = far.Close()
		}()
		return c, nil
	}
}

// reconnected runs play in a bubble with a Reconnector on such links.
func reconnected(t *testing.T, scripts []func(p *peer), play func(t *testing.T, r *client.Reconnector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r, err := client.Reconnect(t.Context(), links(t, scripts...), client.Retry{})
		if err != nil {
			t.Fatal(err)
		}
		play(t, r)
		_ = r.Close()
	})
}

func kept(stdin, stdout uint64) *wire.ExecStarted {
	return &wire.ExecStarted{PID: 7, Kept: &wire.KeptStart{Name: "n", Stdin: stdin, Stdout: stdout}}
}

// A command goes on where its outputs were, and sends the input that was not taken.
func TestComeback(t *testing.T) {
	reconnected(t, []func(*peer){
		func(p *peer) {
			id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptBoth, Write: true})
			p.send(id, kept(10, 100))
			p.expect(&wire.ExecStdin{Data: []byte("0123456789")})
			p.expect(&wire.ExecStdin{Data: []byte{}})
			p.send(id, &wire.ExecStdout{Data: []byte("one ")})
		},
		func(p *peer) {
			id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptBoth, Write: true, Stdout: new(uint64(104)), Stderr: new(uint64(0))})
			p.send(id, kept(14, 110))
			p.expect(&wire.ExecStdin{Data: []byte("456789")})
			p.expect(&wire.ExecStdin{Data: []byte{}})
			p.send(id, &wire.ExecStdout{Data: []byte("two")})
			p.send(id, &wire.ExecExited{Code: 4})
		},
	}, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		var gap uint64
		cmd := r.Attach(t.Context(), "n", client.View{Write: true, Gap: func(_ bool, at uint64) { gap = at }})
		cmd.Stdin = strings.NewReader("0123456789")
		out, err := cmd.Output()
		exit, ok := errors.AsType[*client.ExitError](err)
		if !ok || exit.ExitCode() != 4 || string(out) != "one two" || gap != 110 {
			t.Errorf("%v, %q, a gap up to %d", err, out, gap)
		}
	})
}

// What the next link has may be no comeback.
func TestNoComeback(t *testing.T) {
	for name, c := range map[string]struct {
		answer wire.Message
		is     func(err error) bool
	}{
		"gone":       {&wire.ExecFailed{Kind: wire.FailureNotFound, Message: "no kept command"}, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		"another":    {&wire.ExecStarted{PID: 8, Kept: &wire.KeptStart{Name: "n"}}, func(err error) bool { return strings.Contains(err.Error(), "another one now") }},
		"backwards":  {&wire.ExecStarted{PID: 7, Kept: &wire.KeptStart{Name: "n"}}, isFrameError},
		"not kept":   {&wire.ExecStarted{PID: 7}, isFrameError},
		"no command": {&wire.KeptDetached{}, func(err error) bool { return errors.Is(err, client.ErrDetached) }},
	} {
		t.Run(name, func(t *testing.T) {
			reconnected(t, []func(*peer){
				func(p *peer) {
					id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptBoth})
					p.send(id, kept(0, 100))
				},
				func(p *peer) {
					f, _ := p.next()
					p.send(f.ID, c.answer)
					p.ignore()
				},
			}, func(t *testing.T, r *client.Reconnector) {
				t.Helper()
				if err := r.Attach(t.Context(), "n", client.View{}).Run(); err == nil || !c.is(err) {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func isFrameError(err error) bool {
	_, ok := errors.AsType[*client.FrameError](err)
	return ok
}

// If another client has written meanwhile the input ends, and the output goes on.
func TestComebackToOthersInput(t *testing.T) {
	reconnected(t, []func(*peer){
		func(p *peer) {
			id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptBoth, Write: true})
			p.send(id, kept(0, 0))
			p.expect(&wire.ExecStdin{Data: []byte("mine")})
		},
		func(p *peer) {
			f, _ := p.next()
			p.send(f.ID, kept(5, 0))
			p.send(f.ID, &wire.ExecStdout{Data: []byte("x")})
			p.send(f.ID, &wire.ExecExited{})
		},
	}, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		cmd := r.Attach(t.Context(), "n", client.View{Write: true})
		in, _ := io.Pipe()
		cmd.Stdin = io.MultiReader(strings.NewReader("mine"), in)
		var out bytes.Buffer
		cmd.Stdout, cmd.WaitDelay = &out, time.Second
		err := cmd.Run()
		_ = in.Close()
		if refused, ok := errors.AsType[*client.StdinError](err); !errors.Is(err, client.ErrWaitDelay) && (!ok || refused.Errno != syscall.EBUSY) || out.String() != "x" {
			t.Errorf("%v, %q", err, &out)
		}
	})
}

// A request that was lost with its link is repeated; one that had arrived is found.
func TestStartTorn(t *testing.T) {
	exists := int32(syscall.EEXIST)
	failed := map[string]*wire.ExecFailed{
		"lost":  {Kind: wire.FailureNotFound},
		"later": {Kind: wire.FailureOther, Errno: &exists},
	}
	for _, arrived := range []bool{false, true} {
		reconnected(t, []func(*peer){
			func(p *peer) { p.request() },
			func(p *peer) {
				id, name := p.attached()
				p.send(id, failed["lost"])
				id, req := p.request()
				if req.Keep.Name != name {
					p.t.Errorf("names %q and %q", name, req.Keep.Name)
				}
				if arrived {
					p.send(id, failed["later"])
					id, _ = p.attached()
				}
				p.send(id, kept(0, 0))
				p.send(id, &wire.ExecExited{})
			},
		}, func(t *testing.T, r *client.Reconnector) {
			t.Helper()
			if err := r.Command(t.Context(), "x").Run(); err != nil {
				t.Errorf("arrived %v: %v", arrived, err)
			}
		})
	}
}

// attached reads a request to attach.
func (p *peer) attached() (id uint32, name string) {
	f, _ := p.next()
	m, ok := p.message(f).(*wire.KeptAttach)
	if !ok {
		p.t.Error("no request to attach")
		return f.ID, ""
	}
	return f.ID, m.Name
}

// A command with a name of the caller's is not asked for twice, and one that is not kept ends
// with its link.
func TestStartNotRepeated(t *testing.T) {
	for _, keep := range []*client.Keep{{Name: "mine"}, nil} {
		reconnected(t, []func(*peer){func(p *peer) { p.request() }}, func(t *testing.T, r *client.Reconnector) {
			t.Helper()
			cmd := r.Command(t.Context(), "x")
			cmd.Keep = keep
			err := cmd.Run()
			if _, ok := errors.AsType[*client.LinkError](err); !ok {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// Attempts are bounded, by time and by the context, and the error has the last reason.
func TestReconnectGivesUp(t *testing.T) {
	end := []func(*peer){func(*peer) {}}
	reconnected(t, end, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		synctest.Wait()
		began := time.Now()
		_, err := r.Client(t.Context())
		failed, ok := errors.AsType[*client.ReconnectError](err)
		if took := time.Since(began); !ok || failed.Attempts < 50 || !strings.HasSuffix(err.Error(), "nobody there") || took < time.Minute || took > 62*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
	reconnected(t, end, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Client(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Client = %v", err)
		}
		_ = r.Close()
		if _, err := r.Client(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Client = %v", err)
		}
	})
}

// Close ends attempts that are under way.
func TestReconnectClosed(t *testing.T) {
	reconnected(t, []func(*peer){func(*peer) {}}, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		synctest.Wait()
		wait := background(func() {
			if _, err := r.Client(t.Context()); !errors.Is(err, client.ErrClosed) {
				t.Errorf("Client = %v", err)
			}
		})
		time.Sleep(5 * time.Second)
		began := time.Now()
		_ = r.Close()
		wait()
		if time.Since(began) > 0 {
			t.Error("Close waits for attempts")
		}
	})
}

// A link that ends at once is a failed attempt.
func TestReconnectFlaps(t *testing.T) {
	flap := make([]func(*peer), 10_000)
	for i := range flap {
		flap[i] = func(*peer) {}
	}
	reconnected(t, flap, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		began := time.Now()
		err := r.Attach(t.Context(), "n", client.View{}).Run()
		if _, ok := errors.AsType[*client.ReconnectError](err); !ok || time.Since(began) > 62*time.Second {
			t.Errorf("Run = %v after %v", err, time.Since(began))
		}
	})
}
