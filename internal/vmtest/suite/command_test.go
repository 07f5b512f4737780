package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
)

// killDelay is how long a killed command's end may take to be reported.
const killDelay = 5 * time.Second

// cmd makes a command that ends with the behaviour's time.
func (g *guest) cmd(argv ...string) *client.Cmd {
	c := g.Client().CommandContext(g.ctx, argv[0], argv[1:]...)
	c.WaitDelay = killDelay
	return c
}

func (g *guest) sh(script string) *client.Cmd { return g.cmd("sh", "-c", script) }

// say runs a script that must succeed and returns its output.
func (g *guest) say(script string) (string, error) {
	c := g.sh(script)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w; %s%s", script, err, out, stderr.String())
	}
	return string(out), nil
}

// alive pings the agent.
func (g *guest) alive() (time.Duration, error) {
	if g.Client().Generation() >= pingGeneration {
		return g.Client().Ping(g.ctx)
	}
	start := time.Now()
	err := g.cmd("true").Run()
	return time.Since(start), err
}

// pingGeneration is the first that has core.ping.
const pingGeneration = 6

// A command is a behaviour that one command can check.
type command struct {
	name   string
	argv   []string // Either this
	script string   // or this, for sh.
	env    []string
	dir    string
	user   string
	tty    bool
	stdin  string
	limits []client.Limit

	stdout, stderr string
	code           int
	signal         int // What our agent says of code -1.
}

func (c command) behaviour() behaviour { return behaviour{c.name, c.check} }

func (c command) check(g *guest) error {
	argv := c.argv
	if argv == nil {
		argv = []string{"sh", "-c", c.script}
	}
	cmd := g.cmd(argv...)
	cmd.AddEnv, cmd.Dir, cmd.User, cmd.TTY, cmd.Limits = c.env, c.dir, c.user, c.tty, c.limits
	if c.stdin != "" {
		cmd.Stdin = strings.NewReader(c.stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	code, signal, err := ended(cmd.Run())
	if err != nil {
		return err
	}
	if code != c.code || (signal != 0 && signal != c.signal) || stdout.String() != c.stdout || stderr.String() != c.stderr {
		return fmt.Errorf("got %q, %q, code %d, signal %d; want %q, %q, code %d, signal %d",
			&stdout, &stderr, code, signal, c.stdout, c.stderr, c.code, c.signal)
	}
	return nil
}

// ended translates the end of a command.
func ended(err error) (code, signal int, other error) {
	if exit, ok := errors.AsType[*client.ExitError](err); ok {
		return exit.ExitCode(), int(exit.Signal), nil
	}
	return 0, 0, err
}

// endsWith is an error unless err is the end with that code.
func endsWith(err error, code int) error {
	got, _, err := ended(err)
	if err == nil && got != code {
		err = fmt.Errorf("ended with code %d, want %d", got, code)
	}
	return err
}

// A dialog is a command with scripted input and output.
type dialog struct {
	*client.Cmd
	in    io.WriteCloser
	out   io.Reader
	heard []byte
	over  bool
}

// talk starts a command to talk with.
func talk(c *client.Cmd) (d *dialog, err error) {
	d = &dialog{Cmd: c}
	if d.in, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	if d.out, err = c.StdoutPipe(); err != nil {
		return nil, err
	}
	return d, c.Start()
}

// hear reads until the output holds the words, and drops the output up to their end.
func (d *dialog) hear(words string) error {
	buf := make([]byte, 4<<10)
	for {
		if at := bytes.Index(d.heard, []byte(words)); at >= 0 {
			d.heard = d.heard[at+len(words):]
			return nil
		}
		n, err := d.out.Read(buf)
		d.heard = append(d.heard, buf[:n]...)
		if err != nil && n == 0 {
			return fmt.Errorf("heard %q and then %w, want %q", d.heard, err, words)
		}
	}
}

// tell writes to the command's input.
func (d *dialog) tell(words string) error {
	_, err := io.WriteString(d.in, words)
	return err
}

// end waits for the end of the command, the first time.
func (d *dialog) end() error {
	if d.over {
		return nil
	}
	d.over = true
	_, _ = io.Copy(io.Discard, d.out) // Its error is Wait's.
	return d.Wait()
}

// kill ends a command that goes on for ever.
func (d *dialog) kill() error {
	if err := d.Kill(); err != nil {
		return err
	}
	return endsWith(d.end(), -1)
}

// A step of a dialog.
type step func(*dialog) error

func hear(words string) step { return func(d *dialog) error { return d.hear(words) } }
func tell(words string) step { return func(d *dialog) error { return d.tell(words) } }

func signal(number int) step {
	return func(d *dialog) error { return d.Signal(syscall.Signal(number)) }
}

func resize(rows, cols uint16) step {
	return func(d *dialog) error { return d.Resize(rows, cols) }
}

func exits(code int) step { return func(d *dialog) error { return endsWith(d.end(), code) } }

// converse makes a behaviour of a dialog.
func converse(name string, start func(*guest) *client.Cmd, steps ...step) behaviour {
	return behaviour{name, func(g *guest) error {
		d, err := talk(start(g))
		if err != nil {
			return err
		}
		for i, s := range steps {
			if err := s(d); err != nil {
				_ = d.Kill() // It may have ended; the step's error says more.
				return fmt.Errorf("step %d: %w", i+1, errors.Join(err, d.end()))
			}
		}
		return nil
	}}
}

func script(s string) func(*guest) *client.Cmd {
	return func(g *guest) *client.Cmd { return g.sh(s) }
}

func terminal(s string) func(*guest) *client.Cmd {
	return func(g *guest) *client.Cmd {
		c := g.sh(s)
		c.TTY = true
		return c
	}
}
