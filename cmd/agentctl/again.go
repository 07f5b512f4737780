package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentd-go/agentd/internal/machines"
)

// lifeFlags are the flags for a machine's end and restart.
type lifeFlags struct {
	restart     string
	survive     bool
	stopSignal  string
	stopTimeout int
	flags       *pflag.FlagSet
}

func (f *lifeFlags) register(flags *pflag.FlagSet) {
	f.flags = flags
	flags.StringVar(&f.restart, "restart", "no", "when a machine in the background is started again: `POLICY` no, on-failure[:TIMES], always or unless-stopped")
	flags.StringVar(&f.stopSignal, "stop-signal", "", "the `SIGNAL` that asks its command to end (default TERM)")
	flags.IntVar(&f.stopTimeout, "stop-timeout", int(machines.DefaultGrace/time.Second), "`seconds` between that signal and SIGKILL; -1 means no bound")
}

// registerSurvive adds the flag of commands whose machine may run in the background.
func (f *lifeFlags) registerSurvive(flags *pflag.FlagSet) {
	flags.BoolVar(&f.survive, "survive", false, "in the background: let the machine outlive its supervisor, if that is killed; the next command on it starts another")
}

// apply checks the flags and writes them into the record.
func (f *lifeFlags) apply(r *machines.Record) (err error) {
	if r.Restart, err = machines.ParseRestart(f.restart); err != nil {
		return fmt.Errorf("--restart: %w", err)
	}
	r.Survive = f.survive
	if r.Restart == "no" {
		r.Restart = ""
	}
	if f.stopSignal != "" {
		if _, err = machines.ParseSignal(f.stopSignal); err != nil {
			return fmt.Errorf("--stop-signal: %w", err)
		}
		r.StopSignal = f.stopSignal
	}
	if f.flags.Changed("stop-timeout") {
		d := seconds(f.stopTimeout)
		r.StopTimeout = &d
	}
	return nil
}

// errPassingRestart refuses a restart policy for a machine that is removed at its end.
var errPassingRestart = errors.New("--restart: a machine that is removed at its end (--rm, or run without -d) cannot be started again")

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// stopFlags are the flags of commands that stop machines.
type stopFlags struct {
	timeout int
	signal  string
	flags   *pflag.FlagSet
}

func (f *stopFlags) register(flags *pflag.FlagSet) {
	f.flags = flags
	flags.IntVarP(&f.timeout, "timeout", "t", int(machines.DefaultGrace/time.Second), "`seconds` between the stop signal and SIGKILL; -1 means no bound (default: the machine's own)")
	flags.Lookup("timeout").DefValue = "" // The text names the default.
	flags.IntVar(&f.timeout, "time", int(machines.DefaultGrace/time.Second), "the same")
	_ = flags.MarkHidden("time") // Cannot fail: the flag was just defined.
	flags.StringVarP(&f.signal, "signal", "s", "", "the `SIGNAL` that asks the command to end (default: the machine's own)")
}

func (f *stopFlags) request() (q machines.StopRequest, err error) {
	if f.signal != "" {
		if q.Signal, err = machines.ParseSignal(f.signal); err != nil {
			return q, misuse(fmt.Errorf("--signal: %w", err))
		}
	}
	if f.flags.Changed("timeout") || f.flags.Changed("time") {
		d := seconds(f.timeout)
		q.Grace = &d
	}
	return q, nil
}

func newRestart() *cobra.Command {
	f := &stopFlags{}
	cmd := &cobra.Command{
		Use:   "restart [flags] NAME...",
		Short: "Stop machines and start them again",
		Long: `Stop machines, as 'agentctl stop' does, and start them again. A machine that does not
run is started.
` + exitHelp(startExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.request()
			if err != nil {
				return err
			}
			return eachMachine(cmd, args, func(ctx context.Context, m *machines.Machine) error {
				if m.Record().Passing {
					return fmt.Errorf("machine %s: it is removed at its end, and cannot be started again", m.Name())
				}
				if err := m.Stop(ctx, q); err != nil && !errors.Is(err, machines.ErrNotRunning) {
					return err
				}
				return launch(ctx, m)
			})
		},
	}
	f.register(cmd.Flags())
	return offerJSON(cmd)
}

// startExit is the exit status help of commands that start machines.
const startExit = `  0  done
  2  the arguments or flags are wrong; nothing was done
  125  failed; the error is on standard error
  126  the machine's command is not executable
  127  the machine's command was not found
`

func newRename() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "rename NAME NEW-NAME",
		Short: "Give a machine that does not run another name",
		Long: `Give a machine another name. The machine must be stopped, because the processes of a
running machine use its directory by its name.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			if err := m.Rename(args[1]); err != nil {
				return advise(err)
			}
			return tellMade(args[1], wantsJSON(cmd))
		},
	})
}

func newPort() *cobra.Command {
	return offerJSON(&cobra.Command{
		Use:   "port NAME [PORT[/tcp|/udp]]",
		Short: "Show which ports of this host are forwarded into a running machine",
		Long: `Show the ports of this host that are forwarded into a running machine (-p): all of them,
or the address for one port of the machine.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := portsOf(args[0])
			if err != nil {
				return err
			}
			if len(args) > 1 {
				if ports, err = onlyPort(ports, args[1]); err != nil {
					return fmt.Errorf("machine %s: %w", args[0], err)
				}
			}
			if wantsJSON(cmd) {
				return writeJSON(os.Stdout, ports)
			}
			for _, p := range ports {
				if len(args) == 1 {
					fmt.Print(guestPort(p), "/", protocolOf(p), " -> ")
				}
				fmt.Println(p.Host)
			}
			return nil
		},
	})
}

func portsOf(name string) ([]machines.Port, error) {
	_, s, err := lookupRunning(name)
	if err != nil {
		return nil, err
	}
	return append([]machines.Port{}, s.Ports...), nil
}

// onlyPort returns the ports that lead to the guest's port in text.
func onlyPort(ports []machines.Port, text string) (some []machines.Port, err error) {
	number, protocol, named := strings.Cut(text, "/")
	if _, err := strconv.ParseUint(number, 10, 16); err != nil || named && protocol != "tcp" && protocol != "udp" {
		return nil, misuse(fmt.Errorf("port %q: want a number, NUMBER/tcp or NUMBER/udp", text))
	}
	for _, p := range ports {
		if guestPort(p) == number && protocolOf(p) == cmp.Or(protocol, "tcp") {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("no port of this host is forwarded to its port %s", number)
	}
	return some, nil
}

// protocolOf returns tcp or udp.
func protocolOf(p machines.Port) string { return cmp.Or(p.Protocol, "tcp") }

// guestPort returns the number of the guest's port.
func guestPort(p machines.Port) string { return p.Guest[strings.LastIndexByte(p.Guest, ':')+1:] }
