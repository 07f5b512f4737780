package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

const runExit = `  the command's own status, or
  124  it took longer than --timeout
  125  agentctl or the machine failed; nothing is known of the command
  126  the command is not executable
  127  the command was not found
  128+n  signal n ended the command
`

// runner holds the flags of run.
type runner struct {
	creator
	detach     bool
	quiet      bool
	remove     bool
	entrypoint []string // Replaces the image's entry point; nil keeps it.
}

// commandFlags are the flags of agentctl commands that run a command in a machine.
type commandFlags struct {
	env      []string
	envFiles []string // For exec; run has them as flags of the machine.
	user     string
	dir      string
	tty      bool
	input    bool
	bounds   client.Resources
	leaveBy  []byte // Keys that leave a kept command on our terminal; nil for none.
}

func (f *commandFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&f.env, "env", "e", nil, "set `KEY=VALUE` for the command; KEY alone takes the value from here")
	flags.StringVarP(&f.user, "user", "u", "", "run the command as `USER[:GROUP]`, names or numbers of the machine")
	flags.StringVarP(&f.dir, "workdir", "w", "", "working `directory` of the command")
	flags.StringVar(&f.dir, "cwd", "", "the same")
	_ = flags.MarkHidden("cwd") // Cannot fail: the flag was just defined.
	f.registerTTY(flags)
	// All words after the first one that is no flag belong to the command.
	flags.SetInterspersed(false)
}

func (f *commandFlags) registerTTY(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	flags.BoolVarP(&f.input, "interactive", "i", false, "pass standard input on; without it none is read")
}

const runLong = `Run a command in a machine of its own, which is removed when the command ends.

With --image the machine's root is that of a container image, and the image's
user, environment and working directory are the command's, unless flags say
otherwise. As with containers, the command is the arguments of the image's entry
point if it has one, and without a command the image's own is run.

Without --image and --, the first word names an image, as with containers, if the small
root has no program of that name: 'run debian:12 id' is 'run --image debian:12 -- id'.

Standard output and error are the command's. Standard input is read only with -i.
^C and other signals go to the command; a second ^C ends the machine.
While it runs, 'agentctl ps' shows it and 'agentctl exec' works in it.

With -d the machine runs in the background: run prints its name and returns, and
'agentctl logs' shows what the command prints. It stays when it has ended, except
with --rm. Without a command it stays until it is stopped. With -i the command has an
open input and with -t a terminal, for 'agentctl attach -i'.
`

func newRun() *cobra.Command {
	r := &runner{}
	cmd := &cobra.Command{
		Use:   "run [flags] [IMAGE] [--] [COMMAND [ARG...]]",
		Short: "Run a command in a machine of its own",
		Long:  runLong + exitHelp(runExit),
		Example: `  agentctl run -- uname -a
  echo hello | agentctl run -i -- wc -c
  agentctl run -it -- sh
  agentctl run -v .:/work -w /work -- make test
  agentctl run --image debian.tar -- cat /etc/os-release
  agentctl run -d --name web -p 8080:80 -- httpd -f -h /srv`,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := r.takeImage(args, cmd.ArgsLenAtDash() == 0)
			if err != nil {
				return err
			}
			if err := r.checkUse(args); err != nil {
				return err
			}
			cmd.SetContext(quietly(cmd.Context(), r.quiet))
			if r.detach {
				return r.background(cmd, args)
			}
			return r.run(cmd.Context(), args)
		},
	}
	r.register(cmd)
	r.registerOwn(cmd.Flags())
	return cmd
}

// registerOwn adds the flags that create lacks.
func (r *runner) registerOwn(flags *pflag.FlagSet) {
	flags.Func("entrypoint", "program that replaces the image's entry point; \"\" means none", func(s string) error {
		r.entrypoint = []string{}
		if s != "" {
			r.entrypoint = []string{s}
		}
		return nil
	})
	r.registerTTY(flags)
	r.life.registerSurvive(flags)
	flags.StringVar(&r.name, "name", "", "the machine's `name` (default: a free one)")
	flags.BoolVarP(&r.detach, "detach", "d", false, "run in the background")
	flags.BoolVar(&r.remove, "rm", false, "remove the machine when it has ended; always so without -d")
	flags.BoolVarP(&r.quiet, "quiet", "q", false, "print only errors")
	flags.StringVar(&r.Socket, "socket", "", "serve other clients at this `path`; see 'agentctl exec --socket'")
	flags.Bool("json", false, "with -d: as JSON")
}

// background makes a machine and starts it.
func (r *runner) background(cmd *cobra.Command, command []string) (err error) {
	ctx, stop := interruptible(cmd)
	defer stop()
	if command, err = r.ownCommand(ctx, command); err != nil {
		return err
	}
	m, err := r.create(ctx, command, r.remove)
	if err != nil {
		return err
	}
	if err := launch(ctx, m); err != nil {
		if r.Keep {
			return err
		}
		// The error is known, but not its cause.
		if failed := m.Remove(context.WithoutCancel(ctx)); !errors.Is(failed, machines.ErrNotFound) {
			err = errors.Join(err, failed)
		}
		return err
	}
	return tellMade(m.Name(), wantsJSON(cmd))
}

func (r *runner) run(ctx context.Context, args []string) (err error) {
	ctx, signals := catchSignals(ctx)
	defer signals.stop()
	if args, err = r.ownCommand(ctx, args); err != nil {
		return ended(ctx, err)
	}
	r.attended = true
	m, err := r.create(ctx, args, true)
	if err != nil {
		return ended(ctx, err)
	}
	// Lets a later removal of the machine find its processes.
	if err := os.Setenv(machines.Variable, m.Dir()); err != nil {
		return err
	}
	if r.timeout > 0 {
		timer := time.AfterFunc(r.timeout, func() { signals.cancel(errTimeout) })
		defer timer.Stop()
	}
	finished := awaiting("starting the machine")
	l, err := m.Up(ctx, say)
	finished()
	if err != nil {
		return ended(ctx, err)
	}
	if !r.quiet {
		note(l.Machine)
	}
	signals.reachable(l)
	f := r.commandFlags
	f.bounds.PIDs = r.pids
	if f.env, err = r.environment(); err != nil {
		return err
	}
	if r.by == "environment" { // The machine's configuration lacks it.
		if err := sandbox.MakeDir(ctx, l.Client(), f.dir); err != nil {
			return finish(ctx, l, err)
		}
	}
	return finish(ctx, l, f.command(ctx, l.Client(), args, signals))
}

// ownCommand returns the command of the flags and the image, if there is one.
func (r *runner) ownCommand(ctx context.Context, args []string) (command []string, err error) {
	if r.Image == "" {
		return args, nil
	}
	r.Image, command, err = r.prepareImage(ctx, args)
	return command, err
}

// prepareImage finds or imports the image, and returns its ID and the command.
func (r *runner) prepareImage(ctx context.Context, args []string) (id string, command []string, err error) {
	o, err := r.image.options(r.accel, true)
	if err != nil {
		return "", nil, err
	}
	i, err := findOrImport(ctx, r.Image, o)
	if err != nil {
		return "", nil, err
	}
	// The image is chosen now; only the machine's platform is left.
	if r.image.platform, err = r.image.machine(); err != nil {
		return "", nil, err
	}
	r.image.pull = ""
	if r.entrypoint != nil {
		i.Config.Entrypoint, i.Config.Cmd = r.entrypoint, nil
	}
	if command = i.Config.Command(args...); len(command) == 0 && !r.detach {
		return "", nil, fmt.Errorf("image %s names no command: name one after the flags", r.Image)
	}
	if r.by == "environment" {
		// The machine's configuration then lacks them.
		r.nameFlags.env = append(slices.Clone(i.Config.Env), r.nameFlags.env...)
		r.dir = cmp.Or(r.dir, i.Config.WorkingDir)
	}
	return i.ID, command, nil
}

// finish ends the machine. The command's result takes precedence over the machine's
// error. After an interrupt it ends the machine without asking it.
func finish(ctx context.Context, l *machines.Live, result error) error {
	if ctx.Err() != nil {
		return worse(result, l.Cut())
	}
	return worse(result, l.Down(ctx))
}

// worse returns the command's result, if there is one, and prints the machine's error.
func worse(result, end error) error {
	if result == nil {
		return end
	}
	if end != nil {
		say(end.Error())
	}
	return result
}

// command runs the command and translates its end into our exit status.
func (f *commandFlags) command(ctx context.Context, in *client.Client, args []string, signals *signals) error {
	return f.runCommand(ctx, f.prepare(ctx, in, args), signals)
}

// runCommand is command for one that is described.
func (f *commandFlags) runCommand(ctx context.Context, c *client.Cmd, signals *signals) error {
	c.Stdout, c.Stderr = output{os.Stdout, signals}, output{os.Stderr, signals}
	restore, err := f.connectInput(c)
	if err != nil {
		return err
	}
	defer restore()
	if err := c.Start(); err != nil {
		return ended(ctx, machines.StartError(c.Path, err))
	}
	signals.to(func(sig syscall.Signal) { _ = c.Signal(sig) }) // A command that has ended gets no signals.
	return ended(ctx, commandError(settle(ctx, c)))
}

// prepare returns the command that the flags describe.
func (f *commandFlags) prepare(ctx context.Context, in *client.Client, args []string) *client.Cmd {
	return f.describe(in.CommandContext(ctx, args[0], args[1:]...))
}

// describe fills in a command.
func (f *commandFlags) describe(c *client.Cmd) *client.Cmd {
	c.AddEnv, c.User, c.Dir, c.Resources = f.env, sandbox.PlainUser(f.user), f.dir, f.bounds
	return c
}

// settleTime is how long the rest of the output may take after we have ended the
// command. The machine is killed next, so the command's own end does not matter.
const settleTime = time.Second

// settle waits for the command. Its output may take as long as its reader needs, unless
// a signal tells us to end.
func settle(ctx context.Context, c *client.Cmd) error {
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(settleTime):
		return context.Cause(ctx)
	}
}

// ownTerm returns the environment with our TERM, unless a flag sets it.
func ownTerm(env []string) []string {
	kind, named := os.Getenv("TERM"), slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") })
	if kind == "" || named {
		return env
	}
	return append(slices.Clone(env), "TERM="+kind)
}

// errTimeout is the cause when the timeout ends the machine before the command.
var errTimeout = &statusError{exitTimeout, "the command took longer than --timeout"}

// ended returns the reason for which we ended the machine, if we did, instead of the
// errors that followed.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func commandError(err error) error {
	exit, ok := errors.AsType[*client.ExitError](err)
	if !ok {
		return err
	}
	switch {
	case !exit.Signaled && exit.Usage != nil && exit.Usage.OOMKills > 0:
		return &statusError{exit.ExitCode(), exit.Error()}
	case !exit.Signaled:
		return &statusError{status: exit.ExitCode()}
	}
	return &statusError{exitSignal + int(exit.Signal), exit.Error()}
}

// note prints the machine's notes to standard error: why it is slower than it could be,
// or which features it lacks.
func note(m *sandbox.Machine) {
	for _, line := range machines.Notes(m) {
		say(line)
	}
}
