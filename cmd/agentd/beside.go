package main

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
)

const (
	// ownGroup is the control group of the agent and its commands: an init that
	// tidies up the top of the tree, as systemd does, leaves it alone.
	ownGroup = "agentd"

	// Hosts give a machine whose init is not the agent 8 s: 1.3 s for the
	// commands as ever, then initGrace for the init, and the rest for an agent
	// that has to end the machine in its place.
	initGrace = 4500 * time.Millisecond

	// othersGrace is for processes that the init has told to end as it told us.
	// BusyBox kills whoever is left, us as well, a second after that.
	othersGrace = 400 * time.Millisecond

	// besideDeadline is for the file systems: what is left of the host's 8 s.
	besideDeadline = 1500 * time.Millisecond
)

// handOver makes this process the init of the plan, and a second agent go on in
// its place. It returns only if that failed.
func (g *guest) handOver() error {
	lines, pins := g.machine.Remains()
	files := []uintptr{g.port.FD()}
	for _, pin := range pins {
		files = append(files, pin.FD())
	}
	e := &estate{
		started: g.started, init: g.init, debug: strings.Join(slices.Sorted(maps.Keys(g.debug)), ","),
		generation: g.plan.Generation, commands: g.plan.Commands,
		limits: g.machine.CommandLimits, remains: lines, unread: g.agent.Unread(),
	}
	e.commands.Env = plan.Overlay(e.commands.Env, g.machine.Env)
	i := g.machine.Init
	return proc.HandOver(&proc.Init{
		Path: i.Path, Argv: i.Argv, Env: i.Env, Dir: i.Dir, Limits: commandLimits(g.machine.CommandLimits),
	}, e.encode(), files)
}

// beside is the life of the agent beside another init.
func (g *guest) beside() error {
	if err := g.inherit(); err != nil {
		return phase("handoff failed", err)
	}
	g.terminated = make(chan struct{})
	go func() {
		<-sys.Terminations()
		close(g.terminated)
		g.agent.Interrupt()
	}()
	end, err := g.serve()
	g.leave(end)
	return phase("agent loop error", err)
}

// inherit takes over from PID 1 what the boot has left, and returns when PID 1
// has become the init.
func (g *guest) inherit() error {
	will, err := proc.Inherit()
	if err != nil {
		return err
	}
	e, err := decodeEstate(will.State)
	if err != nil {
		return err
	}
	g.started, g.init, g.debug = e.started, e.init, parseDebug(e.debug)
	g.plan = &plan.Plan{Generation: e.generation, Commands: e.commands}
	g.port = sys.InheritPort(proc.FirstFile)
	if err := g.port.Join(); err != nil {
		return err
	}
	g.agent = agent.Resume(g.port, e.unread)
	next := uintptr(proc.FirstFile)
	g.machine, err = boot.Inherit(e.remains, func() *sys.Root {
		next++
		return sys.InheritRoot(next)
	})
	if err != nil {
		return err
	}
	g.machine.CommandLimits = e.limits
	g.settle()
	g.harden() // The init has other processes.
	return will.TakeCharge()
}

// settle makes the agent fit for a machine that is not its own any more. It can
// live without any of that.
func (g *guest) settle() {
	var err error
	if g.console, err = keepLog(); err != nil {
		logf("the log: %v", err)
	}
	if g.score, err = sys.OpenScore(); err == nil {
		err = g.score.Protect()
	}
	if err != nil {
		logf("%v", err)
	}
	if err := sys.OwnGroup(ownGroup); err != nil {
		logf("control group: %v", err)
	}
}

// leave ends the machine, or the agent where the machine ends anyway: the host
// has asked for it, or SIGTERM says that the init has begun to.
func (g *guest) leave(end agent.End) {
	if g.console != nil {
		g.console() // The log's file system has to become clean as well.
	}
	asked, grace := end != agent.Interrupted, shutdownGrace
	if !asked {
		grace = othersGrace
	}
	others := time.After(othersGrace)
	g.finish(grace)
	if g.procs != nil {
		g.procs.Signal(int(syscall.SIGKILL)) // An init would wait for them.
	}
	if asked && g.askInit() {
		others = time.After(othersGrace)
	}
	if !asked && sys.PowersOff() {
		g.machine.InitEnds = true
		g.machine.Down(besideDeadline)
		return // The init does what somebody has asked it for.
	}
	<-others
	// Nobody is killed who need not be: an init whose last process has gone may kill
	// everybody else, us among them, and end the machine with its disks as they are.
	over := time.Now().Add(besideDeadline)
	if !g.machine.Freeze(besideDeadline) {
		g.killAll()
		g.machine.Down(time.Until(over))
	}
	g.end()
}

// askInit asks the init to end the machine and waits until it has stopped
// everything else, which is when it tells us to end. It reports whether it did.
func (g *guest) askInit() bool {
	inTime(sys.Sync, lastSync) // A host may lose its patience with the init.
	what, err := boot.AskInit(g.terminated)
	if err != nil {
		logf("ask the init: %v", err)
		return false
	}
	logf("asked %s", what)
	select {
	case <-g.terminated:
		return true
	case <-time.After(initGrace):
		logf("the init has not ended the machine within %v", initGrace)
		return false
	}
}
