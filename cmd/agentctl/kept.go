package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

// A keptLine is a kept command in the output of ps --kept --json.
type keptLine struct {
	Name    string    `json:"name"`
	Args    []string  `json:"args"`
	PID     int       `json:"pid"`
	TTY     bool      `json:"tty"`
	State   string    `json:"state"` // running or exited.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Exit    *int      `json:"exit,omitempty"`
	Stdout  keptRange `json:"stdout"`
	Stderr  keptRange `json:"stderr"`
	Clients int       `json:"clients"`
	Writer  bool      `json:"writer"`
}

// A keptRange is the part of an output that is kept.
type keptRange struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

func describeKept(k *client.KeptCommand) keptLine {
	l := keptLine{
		Name: k.Name, Args: k.Args, PID: k.PID, TTY: k.TTY, State: "running", Started: k.Started, Ended: k.Ended,
		Stdout: keptRange(k.Stdout), Stderr: keptRange(k.Stderr), Clients: k.Clients, Writer: k.Writer,
	}
	if !k.Running() {
		l.State, l.Exit = "exited", new(statusOf(commandError(k.Err)))
	}
	return l
}

// statusOf is the status with which a command's end is told.
func statusOf(err error) int {
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.status
	}
	return 0
}

// state returns the state in a form for people.
func (l *keptLine) state() string {
	if l.Exit != nil {
		return fmt.Sprintf("exited (%d)", *l.Exit)
	}
	return "running"
}

// listKept prints the kept commands of a machine.
func listKept(ctx context.Context, c *client.Client, asJSON bool) error {
	all, err := c.Kept(ctx)
	if err != nil {
		return err
	}
	lines := make([]keptLine, 0, len(all))
	for i := range all {
		lines = append(lines, describeKept(&all[i]))
	}
	if asJSON {
		return writeJSON(os.Stdout, lines)
	}
	w := table("KEPT", "STATE", "STARTED", "STDOUT", "STDERR", "COMMAND")
	for _, l := range lines {
		row(w, l.Name, l.state(), ago(l.Started), l.Stdout.End, l.Stderr.End, strings.Join(l.Args, " "))
	}
	return w.Flush()
}

// findKept returns a kept command.
func findKept(ctx context.Context, r *client.Reconnector, name string) (k client.KeptCommand, err error) {
	var all []client.KeptCommand
	err = r.Do(ctx, func(c *client.Client) (err error) {
		all, err = c.Kept(ctx)
		return err
	})
	for _, k := range all {
		if k.Name == name {
			return k, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("there is no kept command %s; 'agentctl ps' with the machine's name lists them", name)
	}
	return k, err
}

// startKept starts a command that is kept, and prints its name.
func (f *commandFlags) startKept(ctx context.Context, in *client.Client, name string, args []string) error {
	c := f.prepare(context.WithoutCancel(ctx), in, args)
	c.Keep = &client.Keep{Name: name}
	if f.tty {
		t := windowOf(os.Stdout, os.Stderr, os.Stdin)
		c.TTY, c.AddEnv = true, ownTerm(f.env)
		c.Rows, c.Cols = t.size()
	}
	if f.tty || f.input {
		if _, err := c.StdinPipe(); err != nil { // Open until a client that attaches ends it.
			return err
		}
	}
	if err := c.Start(); err != nil {
		return machines.StartError(args[0], err)
	}
	fmt.Println(c.Name())
	return nil
}

// foreground starts a command that is kept, and shows it until it ends. A link that ends on the
// way is made again; if this process ends first the command goes on.
func (f *commandFlags) foreground(ctx context.Context, dial client.Dialer, name, leaveBy string, args []string) (err error) {
	if f.leaveBy, err = parseKeys(leaveBy); err != nil {
		return err
	}
	if f.env, err = environmentOf(f.envFiles, f.env); err != nil {
		return err
	}
	if err := f.checkTerminal(); err != nil {
		return err
	}
	ctx, signals := catchSignals(ctx)
	defer signals.stop()
	in, err := reconnect(ctx, dial)
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { _ = in.Close() }() // It is no longer needed.
	err = f.runCommand(ctx, f.described(in.Command(ctx, args[0], args[1:]...), name), signals)
	if errors.Is(err, client.ErrDetached) && ctx.Err() == nil {
		say("left " + name + ", which goes on")
		return nil
	}
	return err
}

// described fills in a command that is kept under a name.
func (f *commandFlags) described(c *client.Cmd, name string) *client.Cmd {
	c.Keep = &client.Keep{Name: name}
	c.Cancel = c.Detach
	return f.describe(c)
}

// A keptView is how attach looks at a kept command.
type keptView struct {
	since string // An offset of stdout, or "".
	now   bool   // Begin with what comes.
	keys  string // Those that leave a command on a terminal.
	input bool   // Pass standard input on.
	proxy bool   // Pass signals on.

	leaveBy []byte // Of keys.
}

// attach shows a kept command until it ends or is left.
func (v *keptView) attach(ctx context.Context, dial client.Dialer, name string) (err error) {
	if v.leaveBy, err = parseKeys(v.keys); err != nil {
		return err
	}
	ctx, signals := catchSignals(ctx)
	defer signals.stop()
	in, err := reconnect(ctx, dial)
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { _ = in.Close() }() // It is no longer needed.
	k, err := findKept(ctx, in, name)
	if err != nil {
		return ended(ctx, err)
	}
	c, err := v.command(ctx, in, name)
	if err != nil {
		return err
	}
	c.Stdout, c.Stderr = output{os.Stdout, signals}, output{os.Stderr, signals}
	restore, err := v.connectInput(c, k.TTY)
	if err != nil {
		return err
	}
	defer restore()
	if err := c.Start(); err != nil {
		return ended(ctx, err)
	}
	if v.proxy {
		signals.to(func(sig syscall.Signal) { _ = c.Signal(sig) }) // A command that has ended gets no signals.
	}
	err = settle(ctx, c)
	if errors.Is(err, client.ErrDetached) && ctx.Err() == nil {
		restore()
		say("left " + name + ", which goes on")
		return nil
	}
	return ended(ctx, commandError(err))
}

// command returns the client's side of a kept command.
func (v *keptView) command(ctx context.Context, in *client.Reconnector, name string) (*client.Cmd, error) {
	view := client.View{Write: v.input, Gap: func(stderr bool, offset uint64) {
		say(fmt.Sprintf("%s: bytes before %d are not kept any more", outputName(stderr), offset))
	}}
	if v.now {
		end := uint64(client.FromEnd)
		view.Stdout, view.Stderr = &end, &end
	}
	if v.since != "" {
		var offset uint64
		if _, err := fmt.Sscanf(v.since+"\n", "%d\n", &offset); err != nil {
			return nil, misuse(fmt.Errorf("attach: --since %q: want the offset of a byte, such as 4096", v.since))
		}
		view.Stdout = &offset
	}
	return in.Attach(ctx, name, view), nil
}

func outputName(stderr bool) string {
	if stderr {
		return "stderr"
	}
	return "stdout"
}

// connectInput passes standard input on. A terminal's keys go to a command with a terminal,
// but for those that leave it.
func (v *keptView) connectInput(c *client.Cmd, tty bool) (restore func(), err error) {
	if !v.input {
		return func() {}, nil
	}
	if !tty || !term.IsTerminal(int(os.Stdin.Fd())) {
		c.Stdin = os.Stdin
		return func() {}, nil
	}
	t, err := openTerminal(os.Stdin)
	if err != nil {
		return nil, err
	}
	if err := passKeys(c, v.leaveBy); err != nil {
		t.restore()
		return nil, err
	}
	c.Rows, c.Cols = t.size()
	t.follow(func(rows, cols uint16) { _ = c.Resize(rows, cols) })
	return t.restore, nil
}

// isKept reports whether a word is not a machine's name.
func isKept(word string) bool {
	_, err := lookup(word)
	return errors.Is(err, machines.ErrNotFound)
}

// awaitKept waits for a kept command and prints its status.
func awaitKept(cmd *cobra.Command, machine, name string, asJSON bool) error {
	return withReconnector(cmd, machine, func(ctx context.Context, r *client.Reconnector) error {
		status, err := waitKept(ctx, r, name)
		switch {
		case err != nil:
			return err
		case asJSON:
			return writeJSON(os.Stdout, []keptEnd{{Machine: machine, Name: name, Exit: status}})
		}
		fmt.Println(status)
		return nil
	})
}

// A keptEnd is the end of a kept command in the output of wait --json.
type keptEnd struct {
	Machine string `json:"machine"`
	Name    string `json:"name"`
	Exit    int    `json:"exit"`
}

// waitKept waits for a kept command, and returns its status.
func waitKept(ctx context.Context, in *client.Reconnector, name string) (int, error) {
	c := in.Attach(ctx, name, client.View{NoStdout: true, NoStderr: true})
	if err := c.Start(); err != nil {
		return 0, err
	}
	err := commandError(c.Wait())
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.status, nil
	}
	return 0, err
}

// logsOfKept prints what is kept of a command, and with follow what comes.
func logsOfKept(ctx context.Context, in *client.Reconnector, name string, follow bool) error {
	k, err := findKept(ctx, in, name)
	if err != nil {
		return err
	}
	v := &keptView{}
	c, err := v.command(ctx, in, name)
	if err != nil {
		return err
	}
	stop := func() {
		out, diag := c.Offsets()
		if !follow && out >= k.Stdout.End && diag >= k.Stderr.End {
			_ = c.Detach() // Fails only if the command has ended.
		}
	}
	c.Stdout, c.Stderr = &watched{os.Stdout, stop}, &watched{os.Stderr, stop}
	if err := c.Start(); err != nil {
		return err
	}
	stop()
	err = c.Wait()
	var exit *client.ExitError
	if errors.As(err, &exit) || errors.Is(err, client.ErrDetached) {
		return nil
	}
	return err
}

// watched calls a function after each write.
type watched struct {
	io.Writer
	wrote func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.wrote()
	return n, err
}

// signalKept sends a signal to a kept command.
func signalKept(ctx context.Context, in *client.Client, name string, sig syscall.Signal) error {
	c := in.Attach(ctx, name, client.View{NoStdout: true, NoStderr: true})
	if err := c.Start(); err != nil {
		return err
	}
	err := c.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("command %s has ended", name)
	}
	return errors.Join(err, leaveKept(c))
}

// leaveKept leaves a command, so that what was sent has arrived.
func leaveKept(c *client.Cmd) error {
	err := c.Detach()
	if waited := c.Wait(); errors.Is(waited, client.ErrDetached) || waited == nil || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
