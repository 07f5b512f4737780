package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

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
		Use:   "inspect [-f TEMPLATE] NAME...",
		Short: "Show all that is known of machines, as JSON",
		Long: `Print everything that is known about machines as a JSON array, or each by a template.
` + exitHelp(plainExit),
		Example: `  agentctl inspect -f '{{.State.ExitCode}} {{.State.Reason}}' web
  agentctl inspect -f '{{json .config}}' web`,
		ValidArgsFunction: completeNames,
	}
	return offerDetails(cmd, inspect, func(i inspection) any { return inspectView{i, stateView{i.State}} })
}

func inspect(name string) (i inspection, err error) {
	m, err := lookup(name)
	if err != nil {
		return i, err
	}
	s, err := m.Status()
	return inspection{m.Record(), s, m.Dir(), m.Socket(), m.Console()}, err
}

// An inspectView is a machine for a template. It has Docker's names as methods; its
// JSON is an object of inspect.
type inspectView struct {
	inspection
	State stateView `json:"state"`
}

// ID is the name: machines have no other.
func (v inspectView) ID() string { return v.Name }

// RestartCount is the number of restarts by its policy.
func (v inspectView) RestartCount() int { return v.State.Restarts }

// LogPath is the file of its command's output.
func (v inspectView) LogPath() string { return v.Dir + "/output.log" }

// A stateView has the fields of a state, and Docker's names for them.
type stateView struct{ machineStatus }

// machineStatus leaves the name Status to Docker's method.
type machineStatus = machines.Status

// Status is the phase.
func (v stateView) Status() string { return string(v.Phase) }

// Running reports whether the machine serves.
func (v stateView) Running() bool { return v.Phase == machines.Running }

// Restarting reports whether it waits for a restart.
func (v stateView) Restarting() bool { return v.Phase == machines.Restarting }

// Dead reports whether its supervisor was killed.
func (v stateView) Dead() bool { return v.Phase == machines.Dead }

// Pid is its supervisor's process.
func (v stateView) Pid() int {
	if !v.Alive {
		return 0
	}
	return v.PID
}

// ExitCode is the status of its command, or 0.
func (v stateView) ExitCode() int {
	if v.Exit == nil {
		return 0
	}
	return *v.Exit
}

// StartedAt is when its last life began.
func (v stateView) StartedAt() string { return v.Started.Format(time.RFC3339Nano) }

// FinishedAt is when it ended.
func (v stateView) FinishedAt() string { return v.Ended.Format(time.RFC3339Nano) }
