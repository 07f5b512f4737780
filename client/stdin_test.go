package client_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// collect reads one command's input until its end.
func (p *peer) collect() (data []byte, largest int) {
	for {
		f, ok := p.next()
		if !ok {
			return data, largest
		}
		m, ok := p.message(f).(*wire.ExecStdin)
		if !ok {
			p.t.Error("want input")
			return data, largest
		}
		if len(m.Data) == 0 {
			return data, largest
		}
		largest = max(largest, len(f.Body)+frame.HeaderSize)
		data = append(data, m.Data...)
	}
}

func TestStdin(t *testing.T) {
	want := make([]byte, 300_000)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	readers := map[string]func() io.Reader{
		"whole":          func() io.Reader { return bytes.NewReader(want) },
		"in halves":      func() io.Reader { return iotest.HalfReader(bytes.NewReader(want)) },
		"data with EOF":  func() io.Reader { return iotest.DataErrReader(bytes.NewReader(want)) },
		"byte and chunk": func() io.Reader { return io.MultiReader(bytes.NewReader(want[:1]), bytes.NewReader(want[1:])) },
	}
	for name, reader := range readers {
		t.Run(name, func(t *testing.T) {
			script(t, 7, func(c *client.Client, p *peer) {
				t := p.t
				wait := background(func() {
					id, _ := p.request()
					p.send(id, &wire.ExecStarted{PID: 1})
					got, largest := p.collect()
					if !bytes.Equal(got, want) {
						t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(want))
					}
					if largest > mux.Quantum {
						t.Errorf("a frame of %d bytes", largest)
					}
					p.send(id, new(wire.ExecExited))
				})
				cmd := c.Command("cat")
				cmd.Stdin = reader()
				if err := cmd.Run(); err != nil {
					t.Error(err)
				}
				wait()
			})
		})
	}
}

// The example of package os/exec: a goroutine that writes while, or before, the
// command starts.
func TestStdinPipe(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		cmd := c.Command("cat")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Repeat("0123456789abcdef", 20_000)
		// A Linux pipe's worth does not need a reader.
		if n, err := io.WriteString(stdin, want[:64<<10]); n != 64<<10 || err != nil {
			t.Fatal(n, err)
		}
		writing := background(func() {
			defer func() { _ = stdin.Close() }()
			if _, err := io.WriteString(stdin, want[64<<10:]); err != nil {
				t.Error(err)
			}
		})
		wait := background(func() {
			id, _ := p.request()
			p.send(id, &wire.ExecStarted{PID: 1})
			data, _ := p.collect()
			p.send(id, &wire.ExecStdout{Data: data})
			p.send(id, new(wire.ExecExited))
		})
		out, err := cmd.Output()
		if string(out) != want || err != nil {
			t.Errorf("Output = %d bytes, %v", len(out), err)
		}
		writing()
		if _, err := stdin.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Write after Close = %v", err)
		}
		wait()
	})
}

// The command ends, or closes its input, while somebody writes to it.
func TestStdinRefused(t *testing.T) {
	errno, strange := int32(5), "EIO"
	ends := map[string]struct {
		send func(p *peer, id uint32)
		want error
	}{
		"ended":  {func(*peer, uint32) {}, nil},
		"closed": {func(p *peer, id uint32) { p.write(golden(p.t, id, stdinEPIPE)) }, nil},
		"broken": {func(p *peer, id uint32) {
			p.send(id, &wire.ExecStdinError{Errno: &errno, ErrnoName: &strange, Message: "io error"})
		}, syscall.EIO},
		"broken for an unknown reason": {func(p *peer, id uint32) {
			p.send(id, &wire.ExecStdinError{Message: "no reason"})
		}, errors.New("write command input: no reason")},
	}
	for name, tt := range ends {
		t.Run(name, func(t *testing.T) {
			script(t, 7, func(c *client.Client, p *peer) {
				t := p.t
				wait := background(func() {
					id, _ := p.request()
					p.send(id, &wire.ExecStarted{PID: 1})
					p.next() // Some of the input.
					tt.send(p, id)
					synctest.Wait()
					p.send(id, new(wire.ExecExited))
					p.ignore()
				})
				cmd := c.Command("x")
				stdin, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				writing := background(func() {
					for err := error(nil); !errors.Is(err, syscall.EPIPE); _, err = stdin.Write(make([]byte, 10_000)) {
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
				err = cmd.Run()
				switch {
				case tt.want == nil && err != nil:
					t.Errorf("Run = %v", err)
				case tt.want != nil && !errors.Is(err, tt.want) && (err == nil || err.Error() != tt.want.Error()):
					t.Errorf("Run = %v, want %v", err, tt.want)
				}
				writing()
				_ = p.conn.Close()
				wait()
			})
		})
	}
}

// No write to a command waits after the command has closed its input.
func TestStdinClosed(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		heard := make(chan struct{})
		wait := background(func() {
			id, _ := p.request()
			p.send(id, &wire.ExecStarted{PID: 1})
			p.write(golden(p.t, id, stdinEPIPE))
			<-heard
			p.send(id, new(wire.ExecExited))
			p.ignore()
		})
		cmd := c.Command("x")
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			p.t.Fatal(err)
		}
		synctest.Wait()
		if _, err := stdin.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			p.t.Errorf("Write = %v", err)
		}
		close(heard)
		if err := cmd.Wait(); err != nil {
			p.t.Error(err)
		}
		_ = p.conn.Close()
		wait()
	})
}

// An error of Stdin comes out of Wait, and the command sees the end of its input.
func TestStdinReadError(t *testing.T) {
	broken := errors.New("broken reader")
	for _, code := range []int32{0, 1} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			wait := background(func() {
				id, _ := p.request()
				p.send(id, &wire.ExecStarted{PID: 1})
				if got, _ := p.collect(); string(got) != "abc" {
					t.Errorf("input %q", got)
				}
				p.send(id, &wire.ExecExited{Code: code})
			})
			cmd := c.Command("x")
			cmd.Stdin = io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken))
			err := cmd.Run()
			var exit *client.ExitError
			if code == 0 && !errors.Is(err, broken) || code != 0 && !errors.As(err, &exit) {
				t.Errorf("code %d: Run = %v", code, err)
			}
			wait()
		})
	}
}

// A Read of Stdin that does not return holds up Wait, as in package os/exec, until
// WaitDelay; that of a file does not.
func TestStdinBlocked(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id, _ := p.request()
			p.send(id, &wire.ExecStarted{PID: 1})
			p.send(id, new(wire.ExecExited))
		})
		begin := time.Now()
		cmd := c.Command("x")
		r, w := io.Pipe()
		cmd.Stdin, cmd.WaitDelay = r, time.Second
		if err := cmd.Run(); !errors.Is(err, client.ErrWaitDelay) || time.Since(begin) != time.Second {
			t.Errorf("Run = %v after %v", err, time.Since(begin))
		}
		_ = w.Close()
		wait()
	})
}

func TestStdinFile(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	near, far := pipe()
	c := client.New(&client.Greeting{Link: near, Generation: 7}, client.IDs{})
	p := &peer{t: t, conn: far, frames: frame.NewReader(far)}
	wait := background(func() {
		id, _ := p.request()
		p.send(id, &wire.ExecStarted{PID: 1})
		p.send(id, new(wire.ExecExited))
	})
	cmd := c.Command("x")
	cmd.Stdin = r
	if err := cmd.Run(); err != nil { // Nobody ever writes to w.
		t.Error(err)
	}
	wait()
	for _, f := range []io.Closer{w, r, far, c} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
