package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// pipe is a link.
func pipe() (near, far net.Conn) { return net.Pipe() }

// An unread stream stops the link when its queue is full, and not before. After that
// a reader still gets all bytes.
func TestSlowReader(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		const chunk, chunks = 32 << 10, 64 // Twice the limit.
		sent := 0
		wait := background(func() {
			id := p.begin()
			for sent < chunks {
				p.send(id, &wire.ExecStdout{Data: bytes.Repeat([]byte{byte(sent)}, chunk)})
				sent++
			}
			p.send(id, new(wire.ExecExited))
		})
		cmd := c.Command("yes")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// The queue, one chunk in the reading goroutine's hand, and what its
		// 64 KiB buffer has beyond that.
		if least, most := client.StreamLimit/chunk-1, client.StreamLimit/chunk+3; sent < least || sent > most {
			t.Errorf("%d chunks were taken without a reader, want %d to %d", sent, least, most)
		}
		got, err := io.ReadAll(out)
		if err != nil {
			t.Error(err)
		}
		for i := range chunks {
			if !bytes.Equal(got[i*chunk:(i+1)*chunk], bytes.Repeat([]byte{byte(i)}, chunk)) {
				t.Fatalf("chunk %d differs", i)
			}
		}
		if err := cmd.Wait(); err != nil || len(got) != chunk*chunks {
			t.Errorf("Wait = %v after %d bytes", err, len(got))
		}
		wait()
	})
}

// An unread stream holds up the other answers of its client, as the package says,
// until it is closed.
func TestUnreadStreamStopsOthers(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.begin()
			pinged := p.expect(new(wire.Ping))
			for range 40 {
				p.send(id, &wire.ExecStdout{Data: make([]byte, 64<<10)})
			}
			p.send(pinged, new(wire.Pong))
			p.send(id, new(wire.ExecExited))
		})
		cmd := c.Command("yes")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { _ = out.Close() })
		if d, err := c.Ping(t.Context()); d != time.Minute || err != nil {
			t.Errorf("Ping = %v, %v", d, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// Each of the ways to stop reading lets the link go on.
func TestUnreadOutput(t *testing.T) {
	broken := errors.New("broken writer")
	short := writerFunc(func(p []byte) (int, error) { return len(p) / 2, nil })
	tests := map[string]struct {
		set  func(cmd *client.Cmd) io.Closer
		want error
	}{
		"discarded":    {func(*client.Cmd) io.Closer { return nil }, nil},
		"closed early": {func(cmd *client.Cmd) io.Closer { r, _ := cmd.StdoutPipe(); return r }, nil},
		"write fails": {func(cmd *client.Cmd) io.Closer {
			cmd.Stdout = writerFunc(func([]byte) (int, error) { return 0, broken })
			return nil
		}, broken},
		"short write": {func(cmd *client.Cmd) io.Closer { cmd.Stdout = short; return nil }, io.ErrShortWrite},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			script(t, 7, func(c *client.Client, p *peer) {
				t := p.t
				wait := background(func() {
					id := p.begin()
					for range 100 {
						p.send(id, &wire.ExecStdout{Data: make([]byte, 64<<10)})
					}
					p.send(id, new(wire.ExecExited))
				})
				cmd := c.Command("yes")
				pipe := tt.set(cmd)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if pipe != nil {
					synctest.Wait()
					if err := pipe.Close(); err != nil {
						t.Error(err)
					}
				}
				if err := cmd.Wait(); !errors.Is(err, tt.want) {
					t.Errorf("Wait = %v, want %v", err, tt.want)
				}
				wait()
			})
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Close is not held up by a consumer that is.
func TestCloseWithSlowReader(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.begin()
			for range 40 {
				p.send(id, &wire.ExecStdout{Data: make([]byte, 64<<10)})
			}
		})
		cmd := c.Command("yes")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n, err := io.Copy(io.Discard, out); n == 0 || !errors.Is(err, client.ErrClosed) {
			t.Errorf("reading what had arrived = %d, %v", n, err)
		}
		wait()
	})
}

// One writer for both streams is not called by two goroutines; a writer that
// cannot be compared is only asked whether it can.
func TestUncomparableWriter(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.begin()
			p.send(id, &wire.ExecStdout{Data: []byte("a")})
			p.send(id, &wire.ExecStderr{Data: []byte("b")})
			p.send(id, new(wire.ExecExited))
		})
		var mu sync.Mutex
		n := 0
		count := writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			n += len(p)
			return len(p), nil
		})
		cmd := c.Command("x")
		cmd.Stdout, cmd.Stderr = count, count
		if err := cmd.Run(); err != nil || n != 2 {
			t.Errorf("Run = %v, %d bytes", err, n)
		}
		wait()
	})
}

// A writer that never returns is left behind after WaitDelay.
func TestStdoutBlocked(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.begin()
			p.send(id, &wire.ExecStdout{Data: []byte("x")})
			p.send(id, new(wire.ExecExited))
		})
		r, w := io.Pipe()
		cmd := c.Command("x")
		cmd.Stdout, cmd.WaitDelay = w, time.Second
		if err := cmd.Run(); !errors.Is(err, client.ErrWaitDelay) {
			t.Errorf("Run = %v", err)
		}
		_ = r.Close()
		wait()
	})
}

// Frames arrive however the link cuts them.
func TestSplitAndMerged(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 1 << 20} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			wait := background(func() {
				id := p.begin()
				var b []byte
				for _, recorded := range []string{stdoutHi, stderrBad, stdoutHi, exited3} {
					b = append(b, golden(t, id, recorded)...)
				}
				for len(b) > 0 {
					n := min(size, len(b))
					p.write(b[:n])
					b = b[n:]
				}
			})
			cmd := c.Command("x")
			out, err := cmd.CombinedOutput()
			var exit *client.ExitError
			if string(out) != "hi\nbad\nhi\n" || !errors.As(err, &exit) {
				t.Errorf("pieces of %d: %q, %v", size, out, err)
			}
			wait()
		})
	}
}

// serve plays an agent whose commands copy their input to their output.
func (p *peer) serve() {
	replies := make(chan []byte, 4096) // More than the test has frames in flight.
	defer close(replies)
	go func() {
		for b := range replies {
			p.write(b)
		}
	}()
	reply := func(id uint32, m wire.Message) {
		b, err := wire.AppendFrame(nil, 7, id, m)
		if err != nil {
			p.t.Error(err)
			return
		}
		replies <- b
	}
	for {
		f, ok := p.next()
		if !ok {
			return
		}
		switch m := p.message(f).(type) {
		case *wire.ExecRequest:
			reply(f.ID, &wire.ExecStarted{PID: f.ID})
		case *wire.ExecStdin:
			if len(m.Data) > 0 {
				reply(f.ID, &wire.ExecStdout{Data: m.Data})
				continue
			}
			reply(f.ID, &wire.ExecExited{Code: int32(f.ID % 2)})
		case *wire.Ping:
			reply(f.ID, new(wire.Pong))
		default:
			p.t.Errorf("unexpected %s", m.Type())
		}
	}
}

func TestManyCommands(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		serving := background(p.serve)
		const commands = 200
		done := make(chan struct{})
		for i := range commands {
			go func() {
				defer func() { done <- struct{}{} }()
				want := strings.Repeat(fmt.Sprintf("command %d ", i), 2000)
				cmd := c.CommandContext(t.Context(), "cat")
				cmd.Stdin = strings.NewReader(want)
				out, err := cmd.Output()
				var exit *client.ExitError
				if failed := errors.As(err, &exit); string(out) != want || failed != (cmd.PID()%2 == 1) {
					t.Errorf("command %d: %d bytes, %v", i, len(out), err)
				}
				if _, err := c.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		}
		for range commands {
			<-done
		}
		_ = p.conn.Close()
		serving()
	})
}

// After Wait nothing of a command is left running: only the client's two
// goroutines are, which end with it.
func TestNoGoroutineLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := client.New(&client.Greeting{Link: near, Generation: 7}, client.IDs{})
		p := &peer{t: t, conn: far, frames: frame.NewReader(far)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wait := background(func() {
			id, _ := p.request()
			p.send(id, &wire.ExecStarted{PID: 1})
			p.collect()
			p.send(id, new(wire.ExecExited))
		})
		cmd := c.CommandContext(ctx, "x")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("x"), new(bytes.Buffer), new(bytes.Buffer)
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		wait()
		synctest.Wait()
		if left := stacksOf("(*Cmd)", "(*input)"); left != "" {
			t.Errorf("left running:\n%s", left)
		}
		_ = far.Close()
		_ = c.Close()
	})
}
