package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

// lookup returns the machine with that name. One of --survive whose supervisor was killed
// gets another one first.
func lookup(name string) (*machines.Machine, error) {
	m, err := find(name)
	if err == nil {
		err = adopt(m)
	}
	return m, err
}

// find returns the machine with that name as it is.
func find(name string) (*machines.Machine, error) {
	if isPod(name) {
		return nil, fmt.Errorf("machine %s: %w", name, errPod)
	}
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	m, err := store.Get(name)
	return m, advise(err)
}

// advise adds the next step to an error for which there is one.
func advise(err error) error {
	for cause, next := range map[error]string{
		machines.ErrNotFound:       "'agentctl ps -a' lists the machines",
		machines.ErrExists:         "choose another name, or 'agentctl rm' it first",
		machines.ErrNotRunning:     "'agentctl start' starts it",
		machines.ErrRunning:        "'agentctl stop' stops it",
		machines.ErrPaused:         "'agentctl resume' continues it",
		machines.ErrNoSnapshot:     "'agentctl snapshot ls' lists the snapshots",
		machines.ErrSnapshotExists: "choose another name, or 'agentctl snapshot rm' it first",
	} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w; %s", err, next)
		}
	}
	return err
}

// lookupRunning returns a running machine and its status.
func lookupRunning(name string) (*machines.Machine, machines.Status, error) {
	m, err := lookup(name)
	if err != nil {
		return nil, machines.Status{}, err
	}
	s, err := m.Status()
	if err == nil && s.Phase != machines.Running {
		err = notRunning(name, s)
	}
	return m, s, err
}

// connect returns a client of a running machine. The caller closes it.
func connect(ctx context.Context, name string) (*client.Client, error) {
	if isPod(name) {
		return podClient(ctx, name)
	}
	m, _, err := lookupRunning(name)
	if err != nil {
		return nil, err
	}
	c, err := client.Connect(ctx, m.Socket())
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	return c, nil
}

// errNotRunning says that a machine does not run, and will not by itself.
var errNotRunning = errors.New("not running")

// reconnector returns a client of a running machine that connects again when its link ends,
// until the machine has ended. The caller closes it.
func reconnector(ctx context.Context, name string) (*client.Reconnector, error) {
	return reconnect(ctx, func(ctx context.Context) (*client.Client, error) { return connect(ctx, name) })
}

// reconnect is reconnector for any way to connect.
func reconnect(ctx context.Context, dial client.Dialer) (*client.Reconnector, error) {
	final := func(err error) bool { return errors.Is(err, errNotRunning) || errors.Is(err, machines.ErrNotFound) }
	return client.Reconnect(ctx, dial, client.Retry{Final: final})
}

// withReconnector is withClient for what goes on when a link ends.
func withReconnector(cmd *cobra.Command, name string, f func(ctx context.Context, r *client.Reconnector) error) error {
	ctx, stop := interruptible(cmd)
	defer stop()
	r, err := reconnector(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // It is no longer needed.
	return f(ctx, r)
}

// A stateError says in which state a machine is that does not run.
type stateError struct {
	text  string
	alive bool // It may run soon.
}

func (e *stateError) Error() string { return e.text }

// Is reports whether target is errNotRunning, for a machine that will not run by itself.
func (e *stateError) Is(target error) bool { return target == errNotRunning && !e.alive }

func notRunning(name string, s machines.Status) error {
	return &stateError{notRunningText(name, s), s.Alive}
}

func notRunningText(name string, s machines.Status) string {
	why := "it is " + string(s.Phase)
	if s.Phase == machines.Dead {
		why = "its supervisor was killed"
	}
	if words, _, _ := strings.Cut(cmp.Or(s.Error, s.Reason), "\n"); words != "" && !s.Alive && s.Phase != machines.Dead {
		why += " (" + plain(words) + ")"
	}
	if s.Phase == machines.Paused {
		return fmt.Sprintf("machine %s: %s; 'agentctl resume %s' continues it", name, why, name)
	}
	if s.Alive {
		return fmt.Sprintf("machine %s: %s; try again in a moment", name, why)
	}
	return fmt.Sprintf("machine %s: %s; 'agentctl start %s' starts it", name, why, name)
}

// interruptible returns a context that ^C and SIGTERM end. A second signal ends the
// program at once.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// withClient calls f with a client of the running machine of a name.
func withClient(cmd *cobra.Command, name string, f func(ctx context.Context, c *client.Client) error) error {
	ctx, stop := interruptible(cmd)
	defer stop()
	c, err := connect(ctx, name)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // The client is no longer needed.
	return f(ctx, c)
}

// creator holds the flags of create.
type creator struct {
	machineFlags
	nameFlags
	commandFlags
	image imageFlags
	use   imageUse
	life  lifeFlags

	attended bool // The command has our own terminal and input, if it has any.
}

func newCreate() *cobra.Command {
	f := &runner{detach: true}
	cmd := &cobra.Command{
		Use:   "create [flags] NAME [-- COMMAND [ARG...]]",
		Short: "Make a machine that stays",
		Long: `Make a machine that stays, and print its name. 'agentctl start' starts it. Its files
stay until 'agentctl rm'. A machine with a command ends with that command. A machine
without one runs until it is stopped.

With --name the arguments are those of 'agentctl run -d', as with containers: 'create
--name web debian:12' makes a machine from that image, for the image's own command.
` + exitHelp("  0  done\n  125  failed; the error is on standard error\n"),
		Example: `  agentctl create -v .:/work -p 8080:80 dev
  agentctl start dev
  agentctl shell dev`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			m, err := f.made(quietly(ctx, f.quiet), args, cmd.ArgsLenAtDash() == 0)
			if err != nil {
				return err
			}
			return tellMade(m.Name(), wantsJSON(cmd))
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.name, "name", "", "the machine's `name`; the first word is an image or a program then")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "say nothing but errors")
	f.registerTTY(cmd.Flags())
	f.life.registerSurvive(cmd.Flags())
	refuseFlags(cmd.Flags(), notCreated...)
	return offerJSON(cmd)
}

// notCreated are flags of container tools that create refuses.
var notCreated = []refusal{
	{names: "rm", bool: true, use: "what was created stays; 'agentctl run -d --rm' removes it at its end"},
	{names: "entrypoint", use: "the command stands after NAME --; 'agentctl run -d --entrypoint' replaces an image's"},
}

// made makes the machine of NAME [-- COMMAND...]; with --name, of [IMAGE] [COMMAND...].
func (r *runner) made(ctx context.Context, args []string, dashed bool) (*machines.Machine, error) {
	if r.name == "" {
		if len(args) == 0 || dashed {
			return nil, errNoName
		}
		r.name = args[0]
		if err := r.check(); err != nil {
			return nil, err
		}
		return r.create(ctx, afterDashes(args[1:]), false)
	}
	args, err := r.takeImage(args, dashed)
	if err != nil {
		return nil, err
	}
	if err := r.checkUse(args); err != nil {
		return nil, err
	}
	if args, err = r.ownCommand(ctx, args); err != nil {
		return nil, err
	}
	return r.create(ctx, args, false)
}

// errNoInput says that -i and -t have no command to act on.
var errNoInput = misuse(errors.New("-i and -t: they are for a command, and there is none" + inBackground))

var errNoName = misuse(errors.New("create: no name; usage: agentctl create [flags] NAME [-- COMMAND [ARG...]]"))

func (f *creator) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.machineFlags.register(flags)
	f.nameFlags.register(flags)
	f.life.register(flags)
	f.image.register(flags)
	f.use.register(flags)
	flags.StringVarP(&f.user, "user", "u", "", "run commands as `USER[:GROUP]`, names or numbers of the machine")
	flags.StringVarP(&f.dir, "workdir", "w", "", "working `directory` of commands")
	flags.StringVar(&f.dir, "cwd", "", "the same")
	_ = flags.MarkHidden("cwd") // Cannot fail: the flag was just defined.
}

// create makes the machine of the flags.
func (f *creator) create(ctx context.Context, command []string, passing bool) (*machines.Machine, error) {
	r, err := f.describe()
	if err != nil {
		return nil, err
	}
	o, err := f.image.options(f.accel, r.Config.Image != "")
	if err != nil {
		return nil, err
	}
	var image *sandbox.Image
	if r.Config.Image != "" {
		i, err := findOrImport(ctx, r.Config.Image, o)
		if err != nil {
			return nil, err
		}
		image, r.Config.Image = &i, i.ID // Fixes the image now: its name may mean another one when the machine starts.
	}
	if err := provide(ctx, r.Config); err != nil {
		return nil, err
	}
	r.Command, r.Passing = command, passing
	if err := f.applyImage(ctx, &r, image); err != nil {
		return nil, err
	}
	if r.TTY, r.Input = f.tty && !f.attended, f.input && !f.attended; (r.TTY || r.Input) && len(r.Command) == 0 {
		return nil, errNoInput
	}
	if passing && !r.Restart.Never() {
		return nil, errPassingRestart
	}
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	if err := f.makeVolumes(ctx, store, r.Config.Mounts, image); err != nil {
		return nil, err
	}
	m, err := store.Create(r)
	if err != nil {
		return nil, advise(err)
	}
	return m, f.writeID(ctx, m)
}

// provide fetches what machines for another architecture than this host's need.
func provide(ctx context.Context, cfg sandbox.Config) error {
	if cfg.Platform == "" {
		return nil
	}
	c, err := sandbox.OpenCache("")
	if err != nil {
		return err
	}
	return c.Provide(ctx, cfg, func(line string) { tellNotes(ctx, line) })
}

// applyImage adds the image's settings for its command.
func (f *creator) applyImage(ctx context.Context, r *machines.Record, image *sandbox.Image) error {
	notes, err := f.use.apply(r, image)
	tellNotes(ctx, notes...)
	return err
}

// fix makes a record's paths absolute, because the machine may be started from any
// directory. A kernel without a slash is a name in the cache.
func fix(r *machines.Record) error {
	paths := []*string{&r.Socket, &r.Config.Root, &r.Config.Upper.Disk, &r.Config.ConsoleFile}
	if strings.Contains(r.Config.Kernel, "/") {
		paths = append(paths, &r.Config.Kernel)
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		path, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = path
	}
	return nil
}

func newStart() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "start NAME...",
		Short: "Start machines that stay",
		Long: `Start machines, and return when they are ready. An agentctl in the background
supervises each machine.
` + exitHelp(startExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachMachine(cmd, args, func(ctx context.Context, m *machines.Machine) error {
				err := launch(ctx, m)
				if errors.Is(err, machines.ErrRunning) {
					return nil // It runs already, as requested.
				}
				return advise(err)
			})
		},
	})
}

// launch starts a machine's supervisor, another process of this program.
func launch(ctx context.Context, m *machines.Machine) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	finished := awaiting("starting " + m.Name())
	notes, err := m.Launch(ctx, self, "supervise", m.Name())
	finished()
	tellNotes(ctx, notes...)
	return err
}

// eachMachine calls f for the named machines, and continues after errors. It prints
// each name on success at once; as JSON, all at the end.
func eachMachine(cmd *cobra.Command, names []string, f func(context.Context, *machines.Machine) error) (err error) {
	return eachFound(cmd, names, lookup, f)
}

// eachFound is eachMachine for machines that get returns.
func eachFound(cmd *cobra.Command, names []string, get func(name string) (*machines.Machine, error), f func(context.Context, *machines.Machine) error) (err error) {
	ctx, stop := interruptible(cmd)
	defer stop()
	asJSON, done := wantsJSON(cmd), []change{}
	for _, name := range names {
		m, failed := get(name)
		if failed == nil {
			failed = f(ctx, m)
		}
		if failed == nil && !asJSON {
			fmt.Println(name)
		} else if failed == nil {
			var c change
			c, failed = changed(name)
			done = append(done, c)
		}
		err = errors.Join(err, failed)
	}
	if asJSON {
		return errors.Join(err, writeJSON(os.Stdout, done))
	}
	return err
}

// completeNames offers the names of all machines.
func completeNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	store, err := machines.Open("")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, err := store.List()
	if err != nil && len(all) == 0 {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
