package client_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A whole command, byte by byte.
func TestCommandBytes(t *testing.T) {
	script(t, 4, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			p.expectBytes(echoHi)
			p.write(golden(t, 1, started317))
			p.expectBytes(stdinAB)
			p.expectBytes(stdinEnd)
			p.expectBytes(signal15)
			p.expectBytes(resize)
			p.write(golden(t, 1, stdoutHi))
			p.write(golden(t, 1, stderrBad))
			p.write(golden(t, 1, exited3))
		})
		cmd := c.Command("/bin/echo", "hi")
		var stdout, stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("ab"), &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.PID() != 317 {
			t.Errorf("pid %d", cmd.PID())
		}
		synctest.Wait() // The input has left.
		for _, err := range []error{cmd.Signal(15), cmd.Resize(40, 100)} {
			if err != nil {
				t.Error(err)
			}
		}
		err := cmd.Wait()
		var exit *client.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 || exit.Signaled || err.Error() != "exit status 3" {
			t.Errorf("Wait = %v", err)
		}
		if stdout.String() != "hi\n" || stderr.String() != "bad\n" {
			t.Errorf("output %q, %q", &stdout, &stderr)
		}
		if err := cmd.Signal(15); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("Signal after the end = %v", err)
		}
		if err := cmd.Kill(); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("Kill after the end = %v", err)
		}
		wait()
	})
}

func TestRequest(t *testing.T) {
	dir, user := "/srv", "alice:devs"
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id, req := p.request()
			want := &wire.ExecRequest{
				Cmd: "sh", Args: []string{"-c", "x"}, Env: []string{"A=b"}, Cwd: &dir, User: &user, TTY: true, Rows: 50, Cols: 132,
				Rlimits:      []wire.Rlimit{{Resource: "nofile", Soft: 10, Hard: 1<<64 - 1}},
				ReportSignal: true,
			}
			if !reflect.DeepEqual(req, want) {
				t.Errorf("request %+v, want %+v", req, want)
			}
			p.send(id, &wire.ExecStarted{PID: 1})
			p.expect(&wire.ExecStdin{Data: []byte("\x04")})
			p.send(id, new(wire.ExecExited))
		})
		cmd := c.Command("sh", "-c", "x")
		cmd.AddEnv, cmd.Dir, cmd.User, cmd.TTY, cmd.Rows, cmd.Cols = []string{"A=b"}, dir, user, true, 50, 132
		cmd.Limits = []client.Limit{{Resource: "nofile", Soft: 10, Hard: 1<<64 - 1}}
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// A terminal's input ends with the character for that, twice if a line has begun.
func TestTerminalInput(t *testing.T) {
	for input, want := range map[string]string{"": "\x04", "ls\n": "\x04", "ls": "\x04\x04"} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			wait := background(func() {
				id, _ := p.request()
				p.send(id, &wire.ExecStarted{PID: 1})
				if input != "" {
					p.expect(&wire.ExecStdin{Data: []byte(input)})
				}
				p.expect(&wire.ExecStdin{Data: []byte(want)})
				p.send(id, new(wire.ExecExited))
			})
			cmd := c.Command("sh")
			cmd.TTY, cmd.Stdin = true, strings.NewReader(input)
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			wait()
		})
	}
}

// kind fails a request with nothing but a kind.
func kind(k wire.FailureKind) func(*peer, uint32) {
	return func(p *peer, id uint32) { p.send(id, &wire.ExecFailed{Kind: k, Message: "m"}) }
}

// recorded fails a request as an agent did.
func recorded(frame string) func(*peer, uint32) {
	return func(p *peer, id uint32) { p.write(golden(p.t, id, frame)) }
}

type startErrorTest struct {
	name, path string
	fail       func(*peer, uint32)
	want       client.StartError
	is, isNot  []error
}

var startErrors = []startErrorTest{
	{
		"recorded", "/no/such", recorded(notFound),
		client.StartError{Kind: "not_found", Errno: syscall.ENOENT, Stage: "Command::spawn", Message: `spawn "/no/such": No such file or directory (os error 2)`},
		[]error{fs.ErrNotExist, syscall.ENOENT},
		[]error{exec.ErrNotFound, fs.ErrPermission},
	},
	{
		"recorded, without errno", "x", recorded(noUser),
		client.StartError{Kind: "other", Message: "exec session error: guest user not found: nobodyhere"},
		nil,
		[]error{fs.ErrNotExist, exec.ErrNotFound, fs.ErrPermission},
	},
	{
		"searched", "nosuch", kind("not_found"),
		client.StartError{Kind: "not_found", Message: "m"},
		[]error{fs.ErrNotExist, exec.ErrNotFound},
		[]error{fs.ErrPermission},
	},
	{
		"permission", "x", kind("permission_denied"),
		client.StartError{Kind: "permission_denied", Message: "m"},
		[]error{fs.ErrPermission},
		[]error{fs.ErrNotExist, exec.ErrNotFound},
	},
}

func (tt *startErrorTest) check(t *testing.T, got *client.StartError) {
	t.Helper()
	want := tt.want
	want.Path = tt.path
	if *got != want {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	for _, target := range tt.is {
		if !errors.Is(got, target) {
			t.Errorf("is not %v", target)
		}
	}
	for _, target := range tt.isNot {
		if errors.Is(got, target) {
			t.Errorf("is %v", target)
		}
	}
}

func TestStartError(t *testing.T) {
	for _, tt := range startErrors {
		t.Run(tt.name, func(t *testing.T) {
			script(t, 4, func(c *client.Client, p *peer) {
				t := p.t
				wait := background(func() {
					id, _ := p.request()
					tt.fail(p, id)
				})
				cmd := c.Command(tt.path)
				pipe, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				stdin, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				err = cmd.Start()
				var got *client.StartError
				if !errors.As(err, &got) {
					t.Fatalf("Start = %v", err)
				}
				tt.check(t, got)
				if _, err := io.ReadAll(pipe); !errors.As(err, &got) {
					t.Errorf("reading the output = %v", err)
				}
				if _, err := stdin.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
					t.Errorf("writing the input = %v", err)
				}
				if err := cmd.Wait(); err == nil {
					t.Error("Wait of a command that did not start succeeded")
				}
				wait()
			})
		})
	}
}

func TestSignaled(t *testing.T) {
	script(t, 4, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			p.write(golden(t, p.begin(), exitedKill))
			number := int32(11)
			p.send(p.begin(), &wire.ExecExited{Code: -1, Signal: &number})
			p.send(p.begin(), &wire.ExecExited{Code: 1, Signal: &number}) // Absurd.
		})
		for _, want := range []struct {
			text   string
			code   int
			signal syscall.Signal
		}{{"killed by a signal", -1, 0}, {"killed by signal 11", -1, 11}, {"exit status 1", 1, 0}} {
			err := c.Command("x").Run()
			var exit *client.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("Run = %v", err)
			}
			if exit.Signaled != (want.code == -1) || exit.ExitCode() != want.code || exit.Signal != want.signal || err.Error() != want.text {
				t.Errorf("got %v, %+v; want %+v", err, exit, want)
			}
		}
		wait()
	})
}

func TestOutput(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	play := func(p *peer) {
		id := p.begin()
		p.send(id, &wire.ExecStdout{Data: []byte("out")})
		p.send(id, &wire.ExecStderr{Data: []byte("first " + long)})
		p.send(id, &wire.ExecStderr{Data: []byte(long + " last")})
		p.send(id, &wire.ExecStdout{Data: []byte("put")})
		p.send(id, &wire.ExecExited{Code: 1})
	}
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() { play(p); play(p) })
		out, err := c.Command("x").Output()
		var exit *client.ExitError
		if string(out) != "output" || !errors.As(err, &exit) {
			t.Fatalf("Output = %q, %v", out, err)
		}
		got := string(exit.Stderr)
		if !strings.HasPrefix(got, "first xxx") || !strings.HasSuffix(got, "xxx last") || !strings.Contains(got, "\n... omitting 16395 bytes ...\n") {
			t.Errorf("stderr of %d bytes: %.20s … %s", len(got), got, got[len(got)-20:])
		}
		out, err = c.Command("x").CombinedOutput()
		if want := "outfirst " + long + long + " lastput"; string(out) != want || !errors.As(err, &exit) || exit.Stderr != nil {
			t.Errorf("CombinedOutput = %d bytes, %v; want %d in order of arrival", len(out), err, len(want))
		}
		wait()
	})
}

// What a caller does wrong is refused, and nothing is sent for it.
func TestMisuse(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		must := func(what string, err error) {
			t.Helper()
			if err == nil {
				t.Errorf("%s succeeded", what)
			}
		}
		cmd := c.Command("x")
		must("Wait before Start", cmd.Wait())
		must("Signal before Start", cmd.Signal(1))
		must("Kill before Start", cmd.Kill())
		must("Resize before Start", cmd.Resize(1, 1))
		if cmd.PID() != 0 {
			t.Error("pid before Start")
		}
		cmd.Args = []string{"y"}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		must("Start with another argument 0", cmd.Start())
		if _, err := stdin.Write(make([]byte, 1<<20)); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write to a command that did not start = %v", err)
		}
		must("Start again", cmd.Start())
		must("Start of a Cmd without client", new(client.Cmd).Start())
		plain := c.Command("x")
		plain.Cancel = func() error { return nil }
		must("Start with Cancel and no context", plain.Start())
		used := c.Command("\xff")
		must("Start with text that is none", used.Start())
		_, err = used.StdinPipe()
		must("StdinPipe after Start", err)
		_, err = cmd.StdoutPipe()
		must("StdoutPipe after Start", err)
		set := c.Command("x")
		set.Stdin, set.Stdout, set.Stderr = strings.NewReader(""), io.Discard, io.Discard
		_, err = set.StdinPipe()
		must("StdinPipe with Stdin", err)
		_, err = set.StderrPipe()
		must("StderrPipe with Stderr", err)
		_, err = set.Output()
		must("Output with Stdout", err)
		set.Stdout = nil
		_, err = set.CombinedOutput()
		must("CombinedOutput with Stderr", err)
	})
}

func TestMisuseAfterStart(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		must := func(what string, err error) {
			t.Helper()
			if err == nil {
				t.Errorf("%s succeeded", what)
			}
		}
		wait := background(func() { p.send(p.begin(), new(wire.ExecExited)) })
		good := c.Command("good")
		if err := good.Start(); err != nil {
			t.Fatal(err)
		}
		for _, sig := range []syscall.Signal{-1, 0, 32, 64} {
			must("a signal that is none", good.Signal(sig))
		}
		if err := good.Wait(); err != nil {
			t.Error(err)
		}
		must("Wait again", good.Wait())
		wait()
	})
}

func started(p *peer, id uint32) { p.send(id, &wire.ExecStarted{PID: 1}) }

var outOfPlace = []struct {
	name string
	send func(p *peer, id uint32)
	want string
}{
	{"output before started", func(p *peer, id uint32) { p.send(id, &wire.ExecStdout{Data: []byte("x")}) }, "bad core.exec.stdout from agent: message out of place"},
	{"exited before started", func(p *peer, id uint32) { p.send(id, new(wire.ExecExited)) }, "bad core.exec.exited from agent: message out of place"},
	{"started twice", func(p *peer, id uint32) { started(p, id); started(p, id) }, "bad core.exec.started from agent: message out of place"},
	{"garbage", func(p *peer, id uint32) { started(p, id); p.raw(id, 0, "x") }, "bad frame from agent: "},
	{"data without data", func(p *peer, id uint32) {
		started(p, id)
		p.raw(id, 0, "\xa3\x61v\x07\x61t\x70core.exec.stdout\x61p\x41\xa0")
	}, "bad core.exec.stdout from agent: "},
	{"terminal output", func(p *peer, id uint32) {
		started(p, id)
		p.raw(id, frame.Terminal, "\xa3\x61v\x07\x61t\x70core.exec.stdout\x61p\x47\xa1\x64data\x40")
	}, "bad core.exec.stdout from agent: flags terminal, want 0"},
	{"an answer", func(p *peer, id uint32) { started(p, id); p.send(id, new(wire.Pong)) }, "bad core.pong from agent: message out of place"},
}

// A command that gets what has no place in it is killed, and others live on.
func TestHostileCommand(t *testing.T) {
	for _, tt := range outOfPlace {
		t.Run(tt.name, func(t *testing.T) {
			script(t, 7, func(c *client.Client, p *peer) {
				t := p.t
				killed := false
				wait := background(func() {
					id, _ := p.request()
					reading := background(func() {
						for range 3 { // The end of the input, perhaps; the signal; the ping.
							f, ok := p.next()
							if !ok {
								return
							}
							if m, ok := p.message(f).(*wire.ExecSignal); ok && m.Signal == 9 && f.ID == id {
								killed = true
							}
							if f.ID != id {
								p.send(f.ID, new(wire.Pong))
								return
							}
						}
					})
					tt.send(p, id)
					// Nothing of this is of interest to anybody.
					p.send(id, &wire.ExecStdout{Data: []byte("x")})
					p.raw(id, 0, "x")
					p.send(id, new(wire.ExecExited))
					p.send(id, new(wire.ExecExited))
					reading()
				})
				cmd := c.Command("x")
				err := cmd.Start()
				if err == nil {
					err = cmd.Wait()
				}
				var bad *client.FrameError
				if !errors.As(err, &bad) || !startsWith(err.Error(), tt.want) {
					t.Errorf("got %v, want %s…", err, tt.want)
				}
				if _, err := c.Ping(t.Context()); err != nil {
					t.Error(err)
				}
				wait()
				if !killed {
					t.Error("the command was not killed")
				}
			})
		})
	}
}

// The agent refuses one of a command's messages: the command's end is not known.
func TestRefusedMessage(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		wait := background(func() {
			id := p.begin()
			p.write(golden(t, id, badFlags))
			p.expect(&wire.ExecSignal{Signal: 9})
		})
		err := c.Command("x").Run()
		var refused *client.ProtocolError
		if !errors.As(err, &refused) || refused.Kind != string(wire.ErrorInvalidFlags) || refused.OffendingType != string(wire.TypeExecSignal) {
			t.Errorf("Run = %v", err)
		}
		wait()
	})
}
