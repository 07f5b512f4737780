package life

import (
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire/bootenv"
)

const (
	// ownGroup is the control group of the agent and its commands. An init that cleans the
	// top of the tree, as systemd does, leaves it alone.
	ownGroup = "agentd"

	// Hosts wait 8 s for the end of a machine with another init. The commands get 1.3 s
	// of that, as on other machines, and the init gets initGrace. The rest is for an agent
	// that has to end the machine itself.
	initGrace = 4500 * time.Millisecond

	// othersGrace is for the processes that the init has told to end, as it told the
	// agent. BusyBox kills the rest, with the agent, after a second.
	othersGrace = 400 * time.Millisecond

	// besideDeadline is for the file systems: the rest of the host's 8 s.
	besideDeadline = 1500 * time.Millisecond
)

// handOver makes this process the init of the plan. A second agent goes on in its place.
// It returns only on failure.
func (l *Life) handOver() error {
	lines, pins := l.machine.Remains()
	files := []uintptr{l.port.FD()}
	for _, pin := range pins {
		files = append(files, pin.FD())
	}
	e := &state{
		started: l.started, init: l.init, debug: strings.Join(slices.Sorted(maps.Keys(l.debug)), ","),
		generation: l.plan.Generation, commands: l.plan.Commands,
		limits: l.machine.CommandLimits, remains: lines, fresh: l.fresh, stored: l.stored, unread: l.agent.Unread(),
	}
	e.commands.Env = plan.Overlay(e.commands.Env, l.machine.Env)
	i := l.machine.Init
	return proc.HandOver(&proc.Init{
		Path: i.Path, Argv: i.Argv, Env: i.Env, Dir: i.Dir, Limits: commandLimits(l.machine.CommandLimits),
	}, e.encode(), files)
}

// Continue is the life of the second agent, beside another init, from the handover
// until the machine or the agent ends.
func (l *Life) Continue() error {
	if err := l.inherit(); err != nil {
		return bootenv.Handoff.Wrap(err)
	}
	l.terminated = make(chan struct{})
	go func() {
		<-sys.Terminations()
		close(l.terminated)
		l.agent.Interrupt()
	}()
	end, err := l.serve()
	l.leave(end)
	return bootenv.AgentLoop.Wrap(err)
}

// inherit takes over the port, the pins and the state from PID 1. It returns when PID 1
// has become the init.
func (l *Life) inherit() error {
	will, err := proc.Inherit()
	if err != nil {
		return err
	}
	e, err := decodeState(will.State)
	if err != nil {
		return err
	}
	l.started, l.init, l.debug, l.fresh, l.stored = e.started, e.init, parseDebug(e.debug), e.fresh, e.stored
	l.plan = &plan.Plan{Generation: e.generation, Commands: e.commands}
	l.port = sys.InheritPort(proc.FirstFile)
	if err := l.port.Join(); err != nil {
		return err
	}
	l.agent = agent.Resume(l.port, e.unread)
	next := uintptr(proc.FirstFile)
	l.machine, err = boot.Inherit(e.remains, func() *sys.Root {
		next++
		return sys.InheritRoot(next)
	})
	if err != nil {
		return err
	}
	l.machine.CommandLimits = e.limits
	l.settle()
	l.harden() // The init has other processes.
	return will.TakeCharge()
}

// settle prepares the agent for a machine that another init owns: a log, a score, a
// control group. The agent can run without each of them, so errors are only logged.
func (l *Life) settle() {
	var err error
	if l.console, err = keepLog(); err != nil {
		sys.Logf("the log: %v", err)
	}
	if l.score, err = sys.OpenScore(); err == nil {
		err = l.score.Protect()
	}
	if err != nil {
		sys.Logf("%v", err)
	}
	if err := sys.OwnGroup(ownGroup); err != nil {
		sys.Logf("control group: %v", err)
	}
}

// leave ends the machine if the host has asked for that. After SIGTERM the init ends the
// machine, and leave prepares for it.
func (l *Life) leave(end agent.End) {
	if l.console != nil {
		l.console() // Close the log: its file system has to be left clean as well.
	}
	asked, grace := end != agent.Interrupted, shutdownGrace
	if !asked {
		grace = othersGrace
	}
	others := time.After(othersGrace)
	l.finish(grace)
	if l.procs != nil {
		l.procs.Signal(int(syscall.SIGKILL)) // An init would wait for them.
	}
	if asked && l.askInit() {
		others = time.After(othersGrace)
	}
	if !asked && sys.PowersOff() {
		l.machine.InitEnds = true
		l.machine.Down(besideDeadline)
		return // The init is already shutting the machine down.
	}
	<-others
	// Do not kill anything without need: an init whose last process has gone may kill
	// everybody else, us among them, and end the machine with its disks as they are.
	over := time.Now().Add(besideDeadline)
	if !l.machine.Freeze(besideDeadline) {
		l.killAll()
		l.machine.Down(time.Until(over))
	}
	End()
}

// askInit asks the init to end the machine, and waits until it sends SIGTERM. It reports
// whether that came.
func (l *Life) askInit() bool {
	inTime(sys.Sync, lastSync) // The host may kill the machine before the init has ended it.
	what, err := boot.AskInit(l.terminated)
	if err != nil {
		sys.Logf("ask the init: %v", err)
		return false
	}
	sys.Logf("asked %s", what)
	select {
	case <-l.terminated:
		return true
	case <-time.After(initGrace):
		sys.Logf("the init has not ended the machine within %v", initGrace)
		return false
	}
}
