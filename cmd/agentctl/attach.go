package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/sandbox"
)

func newAttach() *cobra.Command {
	var noInput bool
	v := &keptView{}
	cmd := &cobra.Command{
		Use:   "attach [flags] NAME [COMMAND]",
		Short: "Show what a command of a running machine prints, and signal it",
		Long: `Show the output of a machine's command in the background, from now on, on standard
output and standard error, and end with the command's status. ^C and other signals go
to the command. A second ^C ends attach, and the command continues. 'agentctl logs'
shows the earlier output.

A command that was started with -i has an input, which -i passes on, and with -t a
terminal. Other commands in the background have none.

With COMMAND, the name of a command that 'agentctl exec -d' has started, show all of that
command's output that is kept, or the output from a byte of its standard output on
(--since), and then what comes. -i passes standard input on, and takes it from the client
that had it. ^P ^Q, or other keys (--detach-keys), leave a command on a terminal.
` + exitHelp(`  the command's own status, or
  125  agentctl or the machine failed; nothing is known of the command
  128+n  signal n ended the command, or attach
`),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				dial := func(ctx context.Context) (*client.Client, error) { return connect(ctx, args[0]) }
				return v.attach(cmd.Context(), dial, args[1])
			}
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			if r := m.Record(); r.Kept() {
				return v.attachMain(cmd.Context(), m)
			}
			if err := onlyFor("for a command that is kept: one of 'exec -d', which has to be named, or of 'run -d -i'", cmd, "interactive", "since", "detach-keys"); err != nil {
				return err
			}
			return attach(cmd.Context(), m, v.proxy)
		},
	}
	cmd.Flags().BoolVarP(&v.input, "interactive", "i", false, "pass standard input on to a kept command")
	cmd.Flags().StringVar(&v.since, "since", "", "begin at this `OFFSET` of a kept command's standard output")
	cmd.Flags().BoolVar(&v.proxy, "sig-proxy", true, "pass signals on to the command")
	cmd.Flags().BoolVar(&noInput, "no-stdin", true, "accepted for compatibility; input is never passed on")
	cmd.Flags().StringVar(&v.keys, "detach-keys", usualKeys, keysHelp)
	return cmd
}

// attachMain shows the machine's command that the agent keeps. If the machine has ended first
// its state says how the command did.
func (v *keptView) attachMain(ctx context.Context, m *machines.Machine) error {
	v.now = v.since == ""
	err := v.attach(ctx, func(ctx context.Context) (*client.Client, error) { return connect(ctx, m.Name()) }, machines.MainCommand)
	if _, gone := errors.AsType[*client.ReconnectError](err); !gone {
		return err
	}
	s, failed := m.Await(ctx)
	if failed != nil {
		return err
	}
	return endOf(m, s)
}

func attach(ctx context.Context, m *machines.Machine, proxy bool) error {
	s, err := m.Status()
	if err != nil {
		return err
	}
	switch {
	case !s.Alive:
		return notRunning(m.Name(), s)
	case len(m.Record().Command) == 0:
		return fmt.Errorf("machine %s: it has no command; 'agentctl shell %s' starts a shell", m.Name(), m.Name())
	case !m.HasOutput():
		return fmt.Errorf("machine %s: its command has the terminal of 'agentctl run'", m.Name())
	}
	ctx, signals := catchSignals(ctx)
	defer signals.stop()
	if proxy {
		signals.to(func(sig syscall.Signal) {
			if err := m.Signal(ctx, sig); err != nil {
				say(err.Error())
			}
		})
	}
	end := make(chan error, 1)
	go func() { // Started now, because the machine may be restarted or removed at once.
		s, err := m.Await(ctx)
		if err == nil {
			err = endOf(m, s)
		}
		end <- err
	}()
	f := &logFlags{query: machines.LogQuery{Follow: true}}
	if err := m.ReadOutput(ctx, f.query, f.print); err != nil {
		return ended(ctx, err)
	}
	return ended(ctx, <-end)
}

// endOf turns the end of a machine's command into our own exit status.
func endOf(m *machines.Machine, s machines.State) error {
	switch {
	case s.Phase != machines.Failed && s.Phase != machines.Stopped && s.Phase != machines.Dead:
		return fmt.Errorf("machine %s: it was started again; how its command ended is not known", m.Name())
	case s.Phase == machines.Failed, s.Phase == machines.Dead:
		return fmt.Errorf("machine %s: %s", m.Name(), s.Error)
	case s.Exit == nil:
		return &statusError{exitOwnFailure, fmt.Sprintf("machine %s: %s", m.Name(), s.Reason)}
	case *s.Exit == 0:
		return nil
	}
	return &statusError{status: *s.Exit}
}

// detachExec starts a command that stays. If the machine's agent cannot keep it, the
// machine's supervisor runs it and discards its output.
func (f *commandFlags) detachExec(ctx context.Context, dial func(context.Context) (*client.Client, error), machine, name string, args []string) (err error) {
	if f.env, err = environmentOf(f.envFiles, f.env); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // The client is no longer needed.
	if name == "" && machine != "" && !f.tty && !f.input && !c.Has(client.ExtensionKept) {
		return f.leaveToSupervisor(ctx, machine, args)
	}
	return f.startKept(ctx, c, name, args)
}

// leaveToSupervisor makes the machine's supervisor start a command.
func (f *commandFlags) leaveToSupervisor(ctx context.Context, name string, args []string) error {
	m, _, err := lookupRunning(name)
	if err != nil {
		return err
	}
	return m.Detach(ctx, machines.Detached{Args: args, Env: f.env, User: sandbox.PlainUser(f.user), Dir: f.dir, Resources: f.bounds})
}

// reachable lets 'agentctl stop' and 'agentctl kill -s' reach the command of run. A
// stop sends the machine's stop signal to the command; after the grace period the
// machine ends.
func (s *signals) reachable(l *machines.Live) {
	end := &statusError{exitSignal + int(syscall.SIGKILL), "it did not end after its stop signal"}
	l.OnStop(func() {
		sig, grace := l.StopWords()
		if grace > 0 {
			time.AfterFunc(grace, func() { s.cancel(end) })
		}
		_ = s.send(sig)
	}, s.send)
}

// send passes a signal to the command, as if this process had received it.
func (s *signals) send(sig syscall.Signal) error {
	s.mu.Lock()
	deliver := s.deliver
	s.mu.Unlock()
	if deliver == nil {
		s.cancel(&statusError{exitSignal + int(sig), fmt.Sprintf("ended by signal %d", int(sig))})
		return nil
	}
	deliver(sig)
	return nil
}
