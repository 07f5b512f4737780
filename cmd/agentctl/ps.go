package main

import (
	"context"
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
	Reason  string            `json:"reason,omitempty"`
	Passing bool              `json:"passing,omitempty"`
	Command []string          `json:"command,omitempty"`
	Ports   []machines.Port   `json:"ports,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Image   string            `json:"image,omitempty"`

	OOMKilled bool `json:"oom_killed,omitempty"`
	Restarts  int  `json:"restarts,omitempty"`

	Health machines.HealthStatus `json:"health,omitempty"` // Set for a running machine with a check.
}

type psFlags struct {
	all, json, quiet, tree, latest, pods, kept bool
	last                                       int
	filters                                    []string
	format                                     string
}

func newPs() *cobra.Command {
	f := &psFlags{}
	cmd := &cobra.Command{
		Use:   "ps [flags] [NAME]",
		Short: "List machines, or the processes in one",
		Long: `List the machines that run; with -a all machines. With a name, list the processes inside
that machine; with -a also the kernel's threads. The commands of 'agentctl exec -d' follow,
also those that have ended.

A machine is created, starting, running, paused, restarting, stopping, stopped, failed
or dead. It is dead if its supervisor was killed and its memory is not on the disk.
'agentctl rm' removes a machine in any of these states. Machines whose files cannot be
read are reported as errors after the list.

A filter is name=PATTERN, status=STATE (exited is stopped or failed), exited=STATUS,
health=starting|healthy|unhealthy|none or label=KEY[=VALUE].

With --pods, list the machines in which containerd's shim runs pods. 'ps', 'exec',
'why', 'stats', 'cp' and 'logs' accept a pod's name, or an unambiguous beginning of it,
in place of a machine's name.
` + exitHelp(plainExit),
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := onlyFor("for the list of machines, and not for the processes in one", cmd, "filter", "last", "latest", "format", "quiet", "pods"); err != nil {
					return err
				}
				if f.kept {
					return withClient(cmd, args[0], func(ctx context.Context, c *client.Client) error { return listKept(ctx, c, f.json) })
				}
				return withClient(cmd, args[0], f.inside)
			}
			if err := onlyFor("for the processes in a machine, which has to be named", cmd, "tree", "kept"); err != nil {
				return err
			}
			return f.machines()
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "include machines that do not run")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "names only")
	cmd.Flags().BoolVar(&f.tree, "tree", false, "show each process below its parent")
	cmd.Flags().BoolVar(&f.kept, "kept", false, "the commands of 'agentctl exec -d' in a machine, those too that have ended")
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
	cmd.Flags().StringArrayVarP(&f.filters, "filter", "f", nil, "only machines with `KEY=VALUE`: name, status, exited, health or label")
	cmd.Flags().IntVarP(&f.last, "last", "n", -1, "the `NUMBER` of machines that were made last, in any state")
	cmd.Flags().Lookup("last").DefValue = "" // -1 stands for all, and is not to be written.
	cmd.Flags().BoolVarP(&f.latest, "latest", "l", false, "the machine that was made last, in any state")
	cmd.Flags().StringVar(&f.format, "format", "", formatHelp)
	cmd.Flags().BoolVar(&f.pods, "pods", false, "the machines of containerd's pods, in place of agentctl's own")
	cmd.Flags().Bool("no-trunc", true, "accepted for compatibility; texts are never shortened")
	return cmd
}

// onlyFor refuses flags that do not apply here.
func onlyFor(what string, cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if given(cmd.Flags(), name) {
			return misuse(fmt.Errorf("%s: --%s is %s", pathOf(cmd), name, what))
		}
	}
	return nil
}

func (f *psFlags) machines() error {
	if f.latest {
		f.last = 1
	}
	list := ownMachines
	if f.pods {
		list = listPods
	}
	// An unreadable machine must not hide the others.
	all, failed := list()
	lines, err := filterBy(all, f.filters, machineFilter)
	if err != nil {
		return err
	}
	if !f.all && f.last < 0 && !slices.ContainsFunc(f.filters, ofEnded) {
		lines = slices.DeleteFunc(lines, machineLine.ended)
	}
	if f.last >= 0 {
		lines = lines[max(0, len(lines)-f.last):]
	}
	return errors.Join(f.print(lines), failed)
}

// ownMachines are those of agentctl's own.
func ownMachines() (lines []machineLine, failed error) {
	store, err := machines.Open("")
	if err != nil {
		return nil, err
	}
	all, failed := listed(store)
	for _, m := range all {
		s, err := m.Status()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("machine %s: %w", m.Name(), err))
			continue
		}
		lines = append(lines, describe(m.Record(), s))
	}
	return lines, failed
}

func describe(r machines.Record, s machines.Status) machineLine {
	l := machineLine{
		Name: r.Name, Phase: s.Phase, Created: r.Created, Started: s.Started, Ended: s.Ended, Exit: s.Exit,
		Error: s.Error, Reason: s.Reason, Passing: r.Passing, Command: r.Command, Ports: r.Ports, Labels: r.Labels,
		Image: r.Config.Image, OOMKilled: s.OOMKilled, Restarts: s.Restarts,
	}
	if s.Health != nil && s.Phase == machines.Running {
		l.Health = s.Health.Status
	}
	if s.Alive {
		l.PID = s.PID
		if s.Phase == machines.Running {
			l.Ports = s.Ports
		}
	}
	return l
}

// ended reports whether the machine does not run, and was not killed.
func (l machineLine) ended() bool {
	return l.Phase == machines.Created || l.Phase == machines.Stopped || l.Phase == machines.Failed
}

func (f *psFlags) print(lines []machineLine) error {
	switch {
	case f.format != "":
		return printEach(os.Stdout, f.format, lines, func(l machineLine) any { return psView{l} }, psHead{})
	case f.json:
		return writeJSON(os.Stdout, append([]machineLine{}, lines...))
	case f.quiet:
		for _, l := range lines {
			fmt.Println(l.Name)
		}
		return nil
	case f.pods:
		return printPods(lines)
	}
	w := table("NAME", "STATE", "CREATED", "PORTS", "COMMAND")
	for _, l := range lines {
		row(w, l.Name, l.state(), ago(l.Created), l.ports(), strings.Join(l.Command, " "))
	}
	return w.Flush()
}

// state returns the phase in a form for people.
func (l *machineLine) state() string {
	switch {
	case l.Phase == machines.Running:
		return strings.TrimSuffix("running "+span(time.Since(l.Started))+" ("+string(l.Health)+")", " ()")
	case l.Phase == machines.Stopped && l.Exit != nil:
		return fmt.Sprintf("stopped (%d)", *l.Exit)
	case l.Phase == machines.Restarting && l.Exit != nil:
		return fmt.Sprintf("restarting (%d)", *l.Exit)
	case l.Error != "":
		return fmt.Sprintf("%s (%s)", l.Phase, brief(l.Error))
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
	return errors.Join(w.Flush(), alsoKept(ctx, c))
}

// alsoKept lists the kept commands, if there are any.
func alsoKept(ctx context.Context, c *client.Client) error {
	if !c.Has(client.ExtensionKept) {
		return nil
	}
	all, err := c.Kept(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	fmt.Println()
	return listKept(ctx, c, false)
}

func (f *psFlags) indent(b procfs.Branch) string {
	if !f.tree {
		return ""
	}
	return deep(b.Depth)
}

// deep indents a process by its depth, up to a bound, because the guest determines the
// depth.
func deep(depth int) string {
	const most = 40
	return strings.Repeat("  ", min(depth, most))
}
