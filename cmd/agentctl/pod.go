package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
	"github.com/agentd-go/agentd/internal/pods"
)

// namespaceLabel is what a pod has in place of labels.
const namespaceLabel = "containerd.namespace"

func isPod(name string) bool { return strings.HasPrefix(name, pods.Prefix) }

// errPod answers commands that would change a machine of containerd's.
var errPod = errors.New("it is a pod of containerd, which starts and ends it; ctr, crictl or nerdctl do that")

// podClient connects to the agent of a pod's machine. The caller closes the client.
func podClient(ctx context.Context, name string) (*client.Client, error) {
	p, err := lookupPod(name)
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return nil, err
	}
	c, err := client.Connect(ctx, p.Socket())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func lookupPod(name string) (pods.Pod, error) {
	p, err := pods.Get(name)
	if errors.Is(err, pods.ErrNotFound) {
		err = fmt.Errorf("%w; 'agentctl ps --pods' lists the pods", err)
	}
	return p, err
}

// listPods are the machines of containerd's shim, as ps shows machines.
func listPods() (lines []machineLine, err error) {
	all, err := pods.List()
	for _, p := range all {
		lines = append(lines, podLine(p))
	}
	return lines, err
}

func podLine(p pods.Pod) machineLine {
	l := machineLine{
		Name: p.Name(), Phase: machines.Running, PID: p.PID, Created: p.Created, Started: p.Created,
		Labels: map[string]string{namespaceLabel: p.Namespace},
	}
	switch err := p.Check(); {
	case errors.Is(err, pods.ErrStarting):
		l.Phase = machines.Starting
	case err != nil:
		l.Phase, l.PID = machines.Dead, 0
	}
	return l
}

func printPods(lines []machineLine) error {
	w := table("NAME", "STATE", "CREATED", "NAMESPACE", "SHIM")
	for _, l := range lines {
		row(w, l.Name, l.state(), ago(l.Created), l.Labels[namespaceLabel], l.PID)
	}
	return w.Flush()
}

// showPod prints the console of a pod's machine.
func (f *logFlags) showPod(name string, asJSON bool) error {
	if f.follow || f.supervisor {
		return misuse(errors.New("logs: --follow and --supervisor are not for pods; the shim's lines are in containerd's log"))
	}
	p, err := lookupPod(name)
	if err != nil {
		return err
	}
	kind := machines.ConsoleLog
	if f.agent {
		kind = machines.AgentLog
	}
	return f.showLines(kind, func(to io.Writer, _ bool) error { return p.CopyConsole(to) }, asJSON)
}
