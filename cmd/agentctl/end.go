package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

func newStop() *cobra.Command {
	f := &stopFlags{}
	cmd := &cobra.Command{
		Use:   "stop [flags] NAME...",
		Short: "Stop machines, their commands first",
		Long: `Stop machines. The command of a machine gets its stop signal (--stop-signal, TERM by
default) and time to end (--stop-timeout, 10 seconds by default). All other commands
get SIGTERM and a short time. Then files are written to disk. A machine that does not
end within 8 more seconds (16 in software emulation) is killed. Its files stay.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.request()
			if err != nil {
				return err
			}
			return eachFound(cmd, args, find, func(ctx context.Context, m *machines.Machine) error {
				defer awaiting("stopping " + m.Name())()
				if err := adopt(m); err != nil { // The guest cannot be asked to end.
					say(err.Error())
					return advise(m.KillLeft())
				}
				return advise(m.Stop(ctx, q))
			})
		},
	}
	f.register(cmd.Flags())
	return offerJSON(cmd)
}

func newKill() *cobra.Command {
	var name, kept string
	cmd := &cobra.Command{
		Use:   "kill [-s SIGNAL] NAME...",
		Short: "End machines like a power cut, or signal their commands",
		Long: `End machines as a power cut would: unwritten data is lost, and no command is told. With
a signal other than KILL, send that signal to the machine's command instead. With --cmd
any signal goes to a command that 'agentctl exec -d' has started.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := machines.ParseSignal(name)
			if err != nil {
				return misuse(fmt.Errorf("--signal: %w", err))
			}
			if kept != "" {
				return forKept(cmd, args, func(ctx context.Context, c *client.Client) error { return signalKept(ctx, c, kept, sig) })
			}
			if sig == syscall.SIGKILL {
				return eachFound(cmd, args, find, func(ctx context.Context, m *machines.Machine) error { return advise(killMachine(ctx, m)) })
			}
			return eachMachine(cmd, args, func(ctx context.Context, m *machines.Machine) error { return advise(m.Signal(ctx, sig)) })
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "the `SIGNAL`, by its name or number")
	cmd.Flags().StringVar(&kept, "cmd", "", "signal a kept `COMMAND` of one machine, and not the machine")
	return offerJSON(cmd)
}

// killMachine ends a machine like a power cut, also one that has lost its supervisor.
func killMachine(ctx context.Context, m *machines.Machine) error {
	err := m.KillLeft()
	if errors.Is(err, machines.ErrNotRunning) || errors.Is(err, machines.ErrRunning) {
		return m.Kill(ctx)
	}
	return err
}

// forKept calls f with a client of the one machine that is named.
func forKept(cmd *cobra.Command, args []string, f func(context.Context, *client.Client) error) error {
	if len(args) != 1 {
		return misuse(fmt.Errorf("%s: --cmd names a command of one machine, and there are %d", pathOf(cmd), len(args)))
	}
	if wantsJSON(cmd) {
		return misuse(fmt.Errorf("%s: --cmd and --json: JSON is of machines", pathOf(cmd)))
	}
	return withClient(cmd, args[0], f)
}

func newRemove() *cobra.Command {
	var force bool
	var kept string
	cmd := &cobra.Command{
		Use:   "rm [-f] NAME...",
		Short: "Remove machines with all their files",
		Long: `Remove machines with their processes, sockets and files. A running machine is refused
without -f. Directories that they share with this host stay, and so do volumes: -v has
no effect, because a machine has no volumes without a name. With
--cmd forget a command of 'agentctl exec -d' that has ended.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kept != "" {
				return forKept(cmd, args, func(ctx context.Context, c *client.Client) error { return c.Release(ctx, kept) })
			}
			get := lookup
			if force {
				get = find // It is killed, and needs no supervisor for that.
			}
			return eachFound(cmd, args, get, func(ctx context.Context, m *machines.Machine) error { return remove(ctx, m, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill them first")
	cmd.Flags().StringVar(&kept, "cmd", "", "forget a kept `COMMAND` of one machine, and not the machine")
	cmd.Flags().BoolP("volumes", "v", false, "accepted for compatibility; all volumes have names")
	_ = cmd.Flags().MarkHidden("volumes") // Cannot fail: the flag was just defined.
	return offerJSON(cmd)
}

func remove(ctx context.Context, m *machines.Machine, force bool) error {
	if force {
		err := killMachine(ctx, m)
		if err != nil && !errors.Is(err, machines.ErrNotRunning) {
			return err
		}
	}
	if s, err := m.Status(); err == nil && s.Phase == machines.Paused && !s.Alive && !force {
		return fmt.Errorf("machine %s: %w; run 'agentctl resume %s' first, or 'agentctl rm -f %s'", m.Name(), machines.ErrPaused, m.Name(), m.Name())
	}
	err := m.Remove(ctx)
	if force && errors.Is(err, machines.ErrNotFound) {
		return nil // A passing machine was removed at its end.
	}
	if errors.Is(err, machines.ErrRunning) {
		return fmt.Errorf("%w; run 'agentctl stop %s' first, or 'agentctl rm -f %s'", err, m.Name(), m.Name())
	}
	return err
}

// An outcome is a machine in the output of wait --json.
type outcome struct {
	Name  string         `json:"name"`
	Phase machines.Phase `json:"phase"` // Its last phase, or dead.
	Exit  *int           `json:"exit,omitempty"`
	Error string         `json:"error,omitempty"`
}

func newWait() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "wait NAME...",
		Short: "Wait until machines or a kept command have ended",
		Long: `Wait until machines have ended, and print the exit status of each one's command, or 0
if it has none and ended in order.

If the second of two arguments is no machine, it is a command of 'agentctl exec -d' in the
first. Its status is printed.
` + exitHelp("  0  all have ended\n  2  the arguments or flags are wrong\n  125  failed, or a machine did; the error is on standard error\n"),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx, stop := interruptible(cmd)
			defer stop()
			asJSON, all := wantsJSON(cmd), []outcome{}
			if len(args) == 2 && isKept(args[1]) {
				return awaitKept(cmd, args[0], args[1], asJSON)
			}
			for _, name := range args {
				o, failed := await(ctx, name)
				if o.Phase != "" {
					all = append(all, o)
				}
				if failed == nil && !asJSON {
					fmt.Println(o.status())
				}
				err = errors.Join(err, failed)
			}
			if asJSON {
				return errors.Join(err, writeJSON(os.Stdout, all))
			}
			return err
		},
	})
}

// await waits for one machine. It returns an error if the machine has failed.
func await(ctx context.Context, name string) (o outcome, err error) {
	m, err := lookup(name)
	if err != nil {
		return o, err
	}
	s, err := awaitMachine(ctx, m)
	if errors.Is(err, machines.ErrNotFound) {
		return o, fmt.Errorf("machine %s was killed and removed; how it ended is not known", name)
	}
	if err == nil && s.Phase == machines.Failed {
		err = fmt.Errorf("machine %s: %s", name, s.Error)
	}
	return outcome{name, s.Phase, s.Exit, s.Error}, err
}

// awaitMachine waits for the end of a machine, also over the ends of supervisors that it
// outlives.
func awaitMachine(ctx context.Context, m *machines.Machine) (machines.State, error) {
	for {
		s, err := m.Await(ctx)
		if err != nil || s.Phase != machines.Dead {
			return s, err
		}
		if err := adopt(m); err != nil {
			return s, err
		}
		if now, err := m.Status(); err != nil || now.Phase == machines.Dead {
			return now.State, err
		}
	}
}

func (o outcome) status() int {
	if o.Exit == nil {
		return 0
	}
	return *o.Exit
}
