package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

var keeps = wire.Ready{Extensions: []string{wire.ExtensionKept, wire.ExtensionListen}}

// A kept command is asked for, its output is acknowledged, gaps move its offsets, and leaving
// it is no end.
func TestKeptCommand(t *testing.T) {
	scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id, req := p.request()
			if req.Keep == nil || req.Keep.Name != "n" || req.Keep.Full != wire.FullWait || *req.Keep.Disk != 0 || !req.Keep.NoInput {
				t.Errorf("request %+v", req)
			}
			p.send(id, &wire.ExecStarted{PID: 7, Kept: &wire.KeptStart{Name: "n"}})
			p.send(id, &wire.ExecStdout{Data: bytes.Repeat([]byte("x"), 20_000)})
			p.expect(&wire.KeptConsumed{Stdout: 20_000})
			p.send(id, &wire.KeptGap{Stream: wire.KeptStderr, Offset: 100})
			p.send(id, &wire.ExecStderr{Data: []byte("late")})
			p.expect(&wire.ExecSignal{Signal: 15, Kept: true})
			p.expect(&wire.KeptDetach{})
			p.send(id, new(wire.KeptDetached))
		})
		cmd := c.Command("x")
		cmd.Keep = &client.Keep{Name: "n", Disk: -1, Wait: true}
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Name() != "n" {
			t.Errorf("name %q", cmd.Name())
		}
		synctest.Wait() // For the output.
		if err := errors.Join(cmd.Signal(15), cmd.Detach()); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); !errors.Is(err, client.ErrDetached) {
			t.Errorf("Wait = %v", err)
		}
		wait()
		if a, b := cmd.Offsets(); a != 20_000 || b != 104 || stderr.String() != "late" || stdout.Len() != 20_000 {
			t.Errorf("offsets %d and %d, %d bytes, %q", a, b, stdout.Len(), &stderr)
		}
	})
}

// A view says what it wants; without Write it sends no input.
func TestAttach(t *testing.T) {
	scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptStderr, Stderr: new(uint64(5)), Rows: 3, Cols: 4})
			p.send(id, &wire.ExecStarted{PID: 7, Kept: &wire.KeptStart{Name: "n", Stderr: 9, TTY: true}})
			p.send(id, &wire.ExecStderr{Data: []byte("e")})
			p.send(id, &wire.ExecExited{Code: 3})
		})
		cmd := c.Attach(t.Context(), "n", client.View{NoStdout: true, Stderr: new(uint64(5))})
		cmd.Rows, cmd.Cols = 3, 4
		cmd.Stdin = strings.NewReader("never sent")
		err := cmd.Run()
		wait()
		exit, ok := errors.AsType[*client.ExitError](err)
		if _, at := cmd.Offsets(); !ok || exit.ExitCode() != 3 || at != 10 || !cmd.HasTTY() {
			t.Errorf("%v at %d", err, at)
		}
	})
}

// An agent cannot move a view back, or answer as if the command were not kept.
func TestKeptSlips(t *testing.T) {
	for name, answers := range map[string][]wire.Message{
		"a gap backwards":   {&wire.ExecStarted{Kept: &wire.KeptStart{Stdout: 9}}, &wire.KeptGap{Stream: wire.KeptStdout, Offset: 8}},
		"not kept":          {&wire.ExecStarted{}},
		"detached at once":  {new(wire.KeptDetached)},
		"a gap before that": {&wire.KeptGap{Stream: wire.KeptStdout, Offset: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
				wait := background(func() {
					id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptBoth})
					for _, m := range answers {
						p.send(id, m)
					}
				})
				err := c.Attach(p.t.Context(), "n", client.View{}).Run()
				if _, ok := errors.AsType[*client.FrameError](err); !ok {
					p.t.Errorf("Run = %v", err)
				}
				wait()
			})
		})
	}
}

// Bad bounds and agents without the extension are errors before anything is sent.
func TestKeepRefused(t *testing.T) {
	scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
		for _, k := range []client.Keep{{Memory: -1}, {Memory: 1 << 30}, {Disk: 1 << 40}, {Age: -1}, {Age: 1 << 62}} {
			cmd := c.Command("x")
			cmd.Keep = &k
			if err := cmd.Start(); err == nil || !strings.HasPrefix(err.Error(), "keep: ") {
				p.t.Errorf("%+v: %v", k, err)
			}
		}
	})
	script(t, 9, func(c *client.Client, p *peer) {
		cmd := c.Command("x")
		cmd.Keep = new(client.Keep)
		_, listed := c.Kept(p.t.Context())
		for _, err := range []error{cmd.Start(), c.Attach(p.t.Context(), "n", client.View{}).Start(), c.Release(p.t.Context(), "n"), listed} {
			if missing, ok := errors.AsType[*client.ExtensionError](err); !ok || missing.Extension != client.ExtensionKept {
				p.t.Errorf("error %v", err)
			}
		}
	})
}

func TestKeptListAndRelease(t *testing.T) {
	scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(new(wire.KeptList))
			p.send(id, &wire.KeptListed{Commands: []wire.KeptCommand{
				{Name: "a", Args: []string{"x", "y"}, PID: 3, StartedNS: 1},
				{Name: "b", EndedNS: 2, Code: new(int32(-1)), Signal: new(int32(9)), Stdout: wire.KeptEnd{Start: 1, End: 2}},
			}})
			id = p.expect(&wire.KeptRelease{Name: "a"})
			p.send(id, &wire.KeptReleased{Refusal: wire.KeptRunning})
			id = p.expect(&wire.KeptRelease{Name: "c"})
			p.send(id, &wire.KeptReleased{Refusal: wire.KeptUnknown})
			id = p.expect(&wire.KeptRelease{Name: "b"})
			p.send(id, &wire.KeptReleased{})
		})
		all, err := c.Kept(t.Context())
		if err != nil || len(all) != 2 || !all[0].Running() || all[1].Running() || all[1].Err.Error() != "killed by signal 9" || all[1].Stdout.End != 2 {
			t.Errorf("%+v, %v", all, err)
		}
		if err := c.Release(t.Context(), "a"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("release of one that runs: %v", err)
		}
		if err := c.Release(t.Context(), "c"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			t.Errorf("release of none: %v", err)
		}
		if err := c.Release(t.Context(), "b"); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// A view with input cannot be followed: bytes on their way would be lost with a link.
func TestFollowRefusesInput(t *testing.T) {
	err := client.Follow(t.Context(), nil, "n", client.View{Write: true}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "Write") {
		t.Errorf("error %v", err)
	}
}

// A machine that was never reached is an error at once.
func TestFollowNeedsALink(t *testing.T) {
	dialed := 0
	err := client.Follow(t.Context(), func(context.Context) (*client.Client, error) {
		dialed++
		return nil, fs.ErrPermission
	}, "n", client.View{}, nil, nil)
	if !errors.Is(err, fs.ErrPermission) || dialed != 1 {
		t.Errorf("%v after %d attempts", err, dialed)
	}
}

// A Sink is told of a gap between the output before it and the output after it, so that
// it can count offsets; Begun is where the output begins.
func TestSinkGaps(t *testing.T) {
	scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.expect(&wire.KeptAttach{Name: "n", Streams: wire.KeptStdout | wire.KeptStderr, Stdout: new(uint64(5)), Stderr: new(uint64(0))})
			p.send(id, &wire.ExecStarted{PID: 7, Kept: &wire.KeptStart{Name: "n", Stdout: 9}})
			p.send(id, &wire.ExecStdout{Data: []byte("a")})
			p.send(id, &wire.KeptGap{Stream: wire.KeptStdout, Offset: 100})
			p.send(id, &wire.KeptGap{Stream: wire.KeptStderr, Offset: 7})
			p.send(id, &wire.ExecStdout{Data: []byte("b")})
			p.send(id, new(wire.ExecExited))
		})
		var got strings.Builder
		view := client.View{Stdout: new(uint64(5)), Stderr: new(uint64(0)), Gap: func(stderr bool, offset uint64) { fmt.Fprintf(&got, "gap %t %d;", stderr, offset) }}
		cmd := c.Attach(t.Context(), "n", view)
		cmd.Sink = func(stderr bool, b []byte) error {
			_, err := fmt.Fprintf(&got, "%t %s;", stderr, b)
			return err
		}
		err := cmd.Run()
		wait()
		if stdout, stderr := cmd.Begun(); err != nil || stdout != 9 || stderr != 0 {
			t.Errorf("%v, begun at %d and %d", err, stdout, stderr)
		}
		if want := "false a;gap false 100;gap true 7;false b;"; got.String() != want {
			t.Errorf("got %q, want %q", &got, want)
		}
	})
}
