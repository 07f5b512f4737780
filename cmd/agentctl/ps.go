package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/internal/transfer"
)

// A machineLine is a machine in the output of ps --json.
type machineLine struct {
	Name    string            `json:"name"`
	Phase   machines.Phase    `json:"phase"`
	PID     int               `json:"pid,omitempty"`
	Created time.Time         `json:"created"`
	Started time.Time         `json:"started,omitzero"`
	Ended   time.Time         `json:"ended,omitzero"`
	Exit    *int              `json:"exit,omitempty"`
	Error   string            `json:"error,omitempty"`
	Passing bool              `json:"passing,omitempty"`
	Command []string          `json:"command,omitempty"`
	Ports   []machines.Port   `json:"ports,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

type psFlags struct {
	all, json, quiet, tree bool
	labels                 []string
}

func newPs() *cobra.Command {
	f := &psFlags{}
	cmd := &cobra.Command{
		Use:   "ps [flags] [NAME]",
		Short: "List machines, or the processes in one",
		Long: `List machines: those that live, with -a all of them. With a name, list the
processes inside that machine; with -a the kernel's threads too.

A machine is created, starting, running, stopping, stopped, failed, or dead, when
its supervisor was killed. 'agentctl rm' removes what is left of any of them. One
whose files cannot be read is an error, behind the list of the others.
` + exitHelp(plainExit),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return withClient(cmd, args[0], f.inside)
			}
			return f.machines()
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "all of them")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "names only")
	cmd.Flags().BoolVar(&f.tree, "tree", false, "show processes behind their parents")
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
	cmd.Flags().StringArrayVarP(&f.labels, "filter", "f", nil, "only machines with label=`KEY[=VALUE]`")
	return cmd
}

func (f *psFlags) machines() error {
	store, err := machines.Open("")
	if err != nil {
		return err
	}
	// What cannot be read of one keeps nobody from the others.
	all, failed := store.List()
	lines := []machineLine{}
	for _, m := range all {
		s, err := m.Status()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("machine %s: %w", m.Name(), err))
			continue
		}
		ended := s.Phase == machines.Created || s.Phase == machines.Stopped || s.Phase == machines.Failed
		if (f.all || !ended) && f.matches(m.Record()) {
			lines = append(lines, describe(m.Record(), s))
		}
	}
	return errors.Join(f.print(lines), failed)
}

func describe(r machines.Record, s machines.Status) machineLine {
	l := machineLine{
		Name: r.Name, Phase: s.Phase, Created: r.Created, Started: s.Started, Ended: s.Ended, Exit: s.Exit,
		Error: s.Error, Passing: r.Passing, Command: r.Command, Ports: r.Ports, Labels: r.Labels,
	}
	if s.Alive {
		l.PID = s.PID
		if s.Phase == machines.Running {
			l.Ports = s.Ports
		}
	}
	return l
}

// matches reports whether the machine has all labels.
func (f *psFlags) matches(r machines.Record) bool {
	return !slices.ContainsFunc(f.labels, func(filter string) bool {
		key, want, valued := strings.Cut(strings.TrimPrefix(filter, "label="), "=")
		value, ok := r.Labels[key]
		return !ok || valued && value != want
	})
}

func (f *psFlags) print(lines []machineLine) error {
	switch {
	case f.json:
		return writeJSON(os.Stdout, lines)
	case f.quiet:
		for _, l := range lines {
			fmt.Println(l.Name)
		}
		return nil
	}
	w := table("NAME", "STATE", "CREATED", "PORTS", "COMMAND")
	for _, l := range lines {
		row(w, l.Name, l.state(), ago(l.Created), l.ports(), strings.Join(l.Command, " "))
	}
	return w.Flush()
}

// state is the phase as a person reads it.
func (l *machineLine) state() string {
	switch {
	case l.Phase == machines.Running:
		return "running " + span(time.Since(l.Started))
	case l.Phase == machines.Stopped && l.Exit != nil:
		return fmt.Sprintf("stopped (%d)", *l.Exit)
	}
	return string(l.Phase)
}

func (l *machineLine) ports() string {
	var all []string
	for _, p := range l.Ports {
		all = append(all, p.String())
	}
	return strings.Join(all, ", ")
}

// inside lists the processes of a machine.
func (f *psFlags) inside(ctx context.Context, c *client.Client) error {
	all, err := procfs.Processes(c.FS().WithContext(ctx))
	if err != nil {
		return err
	}
	if !f.all {
		all = slices.DeleteFunc(all, func(p procfs.Process) bool { return p.Kernel })
	}
	if f.json {
		return writeJSON(os.Stdout, all)
	}
	branches := procfs.Tree(all)
	if !f.tree {
		slices.SortFunc(branches, func(a, b procfs.Branch) int { return a.PID - b.PID })
	}
	w := table("PID", "PPID", "UID", "STATE", "CPU", "RSS", "COMMAND")
	for _, b := range branches {
		row(w, b.PID, b.Parent, b.UID, b.State, b.CPU.Round(10*time.Millisecond), transfer.Size(b.RSS), f.indent(b)+b.Command())
	}
	return w.Flush()
}

func (f *psFlags) indent(b procfs.Branch) string {
	if !f.tree {
		return ""
	}
	return deep(b.Depth)
}

// deep indents what is below others; a guest may say how deep, but not how wide.
func deep(depth int) string {
	const most = 40
	return strings.Repeat("  ", min(depth, most))
}

// An inspection is a machine in the output of inspect.
type inspection struct {
	machines.Record
	State   machines.Status `json:"state"`
	Dir     string          `json:"dir"`
	Socket  string          `json:"socket"`
	Console string          `json:"console"`
}

func newInspect() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "inspect NAME...",
		Short:             "Show all that is known of machines, as JSON",
		Long:              "Show all that is known of machines, as a JSON array.\n" + exitHelp(plainExit),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(_ *cobra.Command, args []string) error {
			var all []inspection
			for _, name := range args {
				m, err := lookup(name)
				if err != nil {
					return err
				}
				s, err := m.Status()
				if err != nil {
					return err
				}
				all = append(all, inspection{m.Record(), s, m.Dir(), m.Socket(), m.Console()})
			}
			return writeJSON(os.Stdout, all)
		},
	}
	cmd.Flags().Bool("json", true, "as JSON; it always is")
	return cmd
}

func newLogs() *cobra.Command {
	f := &logFlags{}
	cmd := &cobra.Command{
		Use:   "logs [-f] NAME",
		Short: "Show what a machine has printed",
		Long: `Show what a machine has printed in its last life: its command's output if it has a
command, else its console, with the agent's lines among the kernel's.
` + exitHelp(plainExit),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			m, err := lookup(args[0])
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return f.asJSON(ctx, m)
			}
			return m.CopyLog(ctx, os.Stdout, f.which(m), f.follow)
		},
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on until the machine has ended")
	cmd.Flags().BoolVar(&f.console, "console", false, "the console")
	cmd.Flags().BoolVar(&f.agent, "agent", false, "only the agent's lines on the console")
	cmd.Flags().BoolVar(&f.supervisor, "supervisor", false, "what agentctl itself says in the background")
	return offerJSON(cmd)
}

type logFlags struct{ follow, console, agent, supervisor bool }

// A logLine is a line in the output of logs --json.
type logLine struct {
	Log  string `json:"log"` // command, console, agent or supervisor.
	Text string `json:"text"`
}

// asJSON writes an object for each line, on a line of its own.
func (f *logFlags) asJSON(ctx context.Context, m *machines.Machine) error {
	kind, out := f.which(m), json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	lines := &machines.Lines{Each: func(line []byte) error {
		return out.Encode(logLine{kind.String(), strings.TrimRight(string(line), "\r\n")})
	}}
	return errors.Join(m.CopyLog(ctx, lines, kind, f.follow), lines.Flush())
}

func (f *logFlags) which(m *machines.Machine) machines.LogKind {
	switch {
	case f.agent:
		return machines.AgentLog
	case f.supervisor:
		return machines.SupervisorLog
	case f.console || len(m.Record().Command) == 0 || m.Record().Passing:
		return machines.ConsoleLog
	}
	return machines.OutputLog
}
