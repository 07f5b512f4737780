package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// The size of a terminal when the caller gives none: a VT100's, as the protocol
// has it.
const (
	defaultRows = 24
	defaultCols = 80
)

// killWait is how long the agent has to report the end of a command after signal
// 9: the guest needs milliseconds, a link with a busy consumer longer. It is the
// protocol's own measure for a peer that does not answer.
const killWait = handshakeTimeout

// A Cmd is a command to run in the guest, as [exec.Cmd] is one to run here. It
// is used once. After Start, its methods may be called from several goroutines,
// except Wait.
type Cmd struct {
	// Path is the command: a path in the guest, or a name that the guest looks
	// up in the command's PATH.
	Path string

	// Args holds the arguments with the command's name as Args[0], which must
	// equal Path, because the protocol has one field for both. Empty means {Path}.
	Args []string

	// AddEnv is added to the environment that the guest gives to commands, the
	// machine's or its image's; of equal keys the last entry wins. Each is KEY=VALUE.
	// The Env of an [exec.Cmd] replaces the environment, which the protocol cannot: to
	// run a command in an empty one, run "env -i".
	AddEnv []string

	// Dir is the working directory, "" the guest's default.
	Dir string

	// Stdin is copied to the command by a goroutine, and Wait waits for that
	// unless Stdin is an *os.File: a Read of a terminal cannot be interrupted, so
	// Wait does not wait for it, and that Read takes the file's next bytes. nil is an empty
	// input.
	Stdin io.Reader

	// Stdout and Stderr take the output, nil discards it. If they are the same
	// writer, only one goroutine at a time calls its Write, in the order in which
	// the output arrives. When a Write fails, the rest of that stream is discarded.
	Stdout io.Writer
	Stderr io.Writer

	// Sink, if set, takes both outputs in the order of their arrival. Stdout and
	// Stderr are nil then, and there are no pipes of them.
	Sink Sink

	// User is USER or USER:GROUP, names or numbers of the guest, "" the guest's
	// default.
	User string

	// TTY gives the command a terminal of Rows and Cols, 24 and 80 if 0. All of
	// its output is then Stdout's.
	TTY        bool
	Rows, Cols uint16

	// Keep lets the command go on without this client; see [Client.Attach]. It needs
	// [ExtensionKept]. The end of the link is then not the end of the command, and
	// neither is Close; Kill and signals reach it as they do others.
	Keep *Keep

	// Limits are resource limits for the command, over those of the machine.
	Limits []Limit

	// Resources bound the command and all that descends from it together. They need
	// [ExtensionLimits], and so does ReportUsage, which Resources imply: it makes Usage say
	// what the command took.
	Resources   Resources
	ReportUsage bool

	// Cancel is called when the context of CommandContext is done; CommandContext
	// sets it to Kill. If it returns os.ErrProcessDone, Wait does not blame the
	// context. A Cmd made by Command must have none.
	Cancel func() error

	// WaitDelay bounds three waits, and 0 is no bound: from Cancel until signal 9
	// if Cancel was something milder; from signal 9 until the agent reports the
	// end (10 seconds if 0); and from the end of the command until its input and
	// output have been copied. Where it passes, Wait gives up with [ErrWaitDelay].
	WaitDelay time.Duration

	client *Client
	ctx    context.Context //nolint:containedctx // Start and Wait have the shape of os/exec.

	cancellable bool  // Made by CommandContext.
	view        *View // Made by Attach.

	again *Reconnector // Of a command that goes on over several links; nil for others.

	stdin          *stream // Of StdinPipe.
	stdout, stderr *stream // Of StdoutPipe and StderrPipe.

	used    bool // Start was called.
	waited  bool
	proc    *process
	copying int        // How many results copied gets.
	copied  chan error // Of one goroutine each.
	watch   func() error
}

// Command returns a Cmd for the named program in the guest.
func (c *Client) Command(name string, args ...string) *Cmd {
	return &Cmd{
		Path: name, Args: append([]string{name}, args...),
		client: c, ctx: context.Background(),
	}
}

// CommandContext is like Command; when the context is done before the command
// has ended, Cancel is called, which sends signal 9 to its process group.
func (c *Client) CommandContext(ctx context.Context, name string, args ...string) *Cmd {
	cmd := c.Command(name, args...)
	cmd.ctx, cmd.cancellable = ctx, true
	cmd.Cancel = cmd.Kill
	return cmd
}

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Start returns when the command runs in the guest. The error is a [*StartError]
// if the guest could not start it. Wait must follow if there is none.
func (c *Cmd) Start() error {
	switch {
	case c.client == nil && c.again == nil:
		return errors.New("command was not made by a client")
	case c.used:
		return errors.New("command already started")
	case c.Cancel != nil && !c.cancellable:
		return errors.New("cancel set for a command without a context")
	}
	if c.Sink != nil && (c.Stdout != nil || c.Stderr != nil || c.stdout != nil || c.stderr != nil) {
		return errSinkTwice
	}
	c.used = true
	if err := c.start(); err != nil {
		c.closePipes(err)
		return err
	}
	return nil
}

func (c *Cmd) start() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	p := &process{kept: c.keptState(), stdin: c.stdin, labelled: c.Sink != nil}
	p.stdout, p.stderr = c.outputs()
	p.orderGaps()
	if err := c.ask(p); err != nil {
		return err
	}
	if err := p.awaitStart(c.ctx); err != nil {
		return err
	}
	c.proc = p
	c.copyAll()
	c.watch = c.watchContext()
	return nil
}

// ask sends the first message, by a link that is up if the command has one after the other.
func (c *Cmd) ask(p *process) error {
	for {
		var err error
		if c.again != nil {
			if c.client, err = c.again.Client(c.ctx); err != nil {
				return err
			}
		}
		first, err := c.opening()
		if err != nil {
			return err
		}
		if c.view != nil {
			p.attached = c.Path
		}
		p.back = c.comeback(first)
		if err = c.client.exec(p, first, c.Path); err == nil || c.again == nil || !LinkEnded(err) {
			return err
		}
	}
}

// opening makes the first message: a request for a new command, or one to attach.
func (c *Cmd) opening() (wire.Message, error) {
	if c.view != nil {
		return c.attach(), c.client.needs(ExtensionKept, "kept commands")
	}
	req, err := c.request()
	if err == nil && c.Keep != nil {
		if err = c.client.needs(ExtensionKept, "kept commands"); err == nil {
			req.Keep, err = c.Keep.request(c.Stdin == nil)
		}
	}
	return req, err
}

// keptState is nil for a command that belongs to its client.
func (c *Cmd) keptState() *keptState {
	switch {
	case c.view != nil:
		return &keptState{gap: c.view.Gap, wants: [2]bool{!c.view.NoStdout, !c.view.NoStderr}}
	case c.Keep != nil:
		return &keptState{gap: c.Keep.Gap, wants: [2]bool{true, true}}
	}
	return nil
}

// request makes the protocol's request for the command.
func (c *Cmd) request() (*wire.ExecRequest, error) {
	args := c.Args
	if len(args) == 0 {
		args = []string{c.Path}
	}
	if args[0] != c.Path {
		return nil, fmt.Errorf("argument 0 is %q and path is %q: the guest cannot be told both", args[0], c.Path)
	}
	group, err := c.Resources.limits()
	if err != nil {
		return nil, err
	}
	report := c.ReportUsage || group != nil
	if report {
		if err := c.client.needs(ExtensionLimits, "limits of a command"); err != nil {
			return nil, err
		}
	}
	return &wire.ExecRequest{
		Cmd:     c.Path,
		Args:    args[1:],
		Env:     c.AddEnv,
		Cwd:     optional(c.Dir),
		User:    optional(c.User),
		TTY:     c.TTY,
		Rows:    cmp.Or(c.Rows, defaultRows),
		Cols:    cmp.Or(c.Cols, defaultCols),
		Rlimits: wire.RlimitsOf(c.Limits),

		ReportSignal: true,
		Limits:       group,
		ReportUsage:  report,
	}, nil
}

// Unlimited is the value of a [Limit] without a limit.
const Unlimited = math.MaxUint64

// A Limit is a limit on what a process may use (getrlimit(2)).
type Limit struct {
	// Resource is the name without RLIMIT_, such as "nofile"; case does not matter.
	Resource string `json:"resource"`
	// Soft and Hard are in the unit of the resource: bytes, seconds, a count.
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Wait returns when the command has ended and its input and output have been copied. The
// error is nil for exit code 0, and an [*ExitError] for another code. It is a
// [*FrameError], [*ProtocolError], [*LinkError] or [ErrClosed] if the code is unknown.
// Otherwise it is, as in package os/exec, the context's error or the error of the copying.
// Bytes in a StdoutPipe or StderrPipe can still be read after Wait, but Wait does not
// return while more bytes are unread than the pipe's queue holds.
func (c *Cmd) Wait() error {
	switch {
	case c.proc == nil:
		return errNotStarted
	case c.waited:
		return errors.New("wait was already called")
	}
	c.waited = true
	<-c.proc.done
	canceled := c.watch()
	copied := c.awaitCopies()
	for _, err := range []error{c.proc.status(), canceled, copied} {
		if err != nil {
			return err
		}
	}
	return c.proc.inputError()
}

// watchContext calls interrupt when the context is done. settle ends the watch, and returns
// the context's error for the command.
func (c *Cmd) watchContext() (settle func() error) {
	verdict := make(chan error, 1)
	stop := context.AfterFunc(c.ctx, func() { verdict <- c.interrupt() })
	return func() error {
		if stop() {
			return nil
		}
		return <-verdict
	}
}

// PID returns the command's process id in the guest, 0 before Start.
func (c *Cmd) PID() int {
	if c.proc == nil {
		return 0
	}
	c.proc.mu.Lock()
	defer c.proc.mu.Unlock()
	return c.proc.pid
}

// Signal sends a signal, 1 to 31, to the command's process group. It returns
// os.ErrProcessDone if the command has ended, and waits while the link is blocked.
// The number is Linux's: on another system use those of package syscall that are the
// same there (SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM), or numbers.
func (c *Cmd) Signal(sig syscall.Signal) error {
	if c.proc == nil {
		return errNotStarted
	}
	return c.proc.signal(sig)
}

// Resize gives the command's terminal a new size.
func (c *Cmd) Resize(rows, cols uint16) error {
	if c.proc == nil {
		return errNotStarted
	}
	c.proc.back.resize(rows, cols)
	return c.proc.sendAlive(&wire.ExecResize{Rows: rows, Cols: cols})
}

// Kill sends signal 9 to the command's process group. It does not wait for the
// link.
func (c *Cmd) Kill() error {
	if c.proc == nil {
		return errNotStarted
	}
	return c.proc.killAlive()
}
