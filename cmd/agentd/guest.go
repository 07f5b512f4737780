package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

const (
	// portName is the virtio port between host and guest.
	portName = "agent"

	// portDeadline is how long the port may take to appear: its name comes by a
	// message of the host after the device, some 10 ms later on an idle machine.
	portDeadline = 10 * time.Second
	portInterval = 10 * time.Millisecond

	// secondDeadline is for the second port to appear and its host to answer, as in
	// the reference agents.
	secondDeadline = 60 * time.Second

	// spareThreads is what the agent needs when no process id is left for a
	// thread, beside one for each processor: one for each system call that may
	// hang at once (the spawner, teardown, the heartbeat, the sessions' own), and
	// those that the runtime keeps for itself (its watching thread, its template of
	// threads, and the one that takes signals).
	spareThreads = 6 + session.BlockingCalls

	// A host of generation 7 ends the machine 2 s after it asked for the end.
	// Commands get the larger part of that to handle SIGTERM, the killed ones
	// a little to be reaped, the file systems the rest.
	shutdownGrace = 1000 * time.Millisecond
	killGrace     = 300 * time.Millisecond
	downDeadline  = 5 * time.Second // Longer: a large sync is worth the host's 8 s.
	lastSync      = time.Second     // For a boot that failed; behind a shutdown nothing is left to write.

	// debugVariable lists what to print to the console: "boot" (the time of
	// each step), "plan" (what is going to be done).
	debugVariable = "AGENTD_DEBUG"
)

// guest is the machine and what has been opened for it so far.
type guest struct {
	started time.Duration
	debug   map[string]bool
	init    time.Duration // How long the bringing up took.

	plan    *plan.Plan
	agent   *agent.Agent
	machine *boot.Machine
	procs   *proc.Table
	port    *sys.Port
	second  *sys.Port // For raw records; nil without one.

	hard bool // See harden.

	// Of the agent beside another init:
	terminated chan struct{} // Closed when the init tells us to end.
	console    func()        // Gives the console back for the log; nil without one.
	score      *sys.Score
}

func parseDebug(list string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.SplitSeq(list, ",") {
		all[word] = true
	}
	return all
}

// configure opens the port and decides what to bring up: from the environment if
// that says anything, else from the first message on the port. Never from both.
func (g *guest) configure() (err error) {
	told := plan.Configured(os.Environ())
	if told {
		if g.plan, err = plan.FromEnvironment(os.Environ()); err != nil {
			return phase("config parse failed", err)
		}
	}
	if err := boot.EarlyMounts(); err != nil {
		return phase("early init failed", err)
	}
	if err := g.openPort(); err != nil {
		return phase("console open failed", err)
	}
	if !told {
		if err := g.receive(); err != nil {
			return err
		}
	}
	if g.debug["plan"] {
		logf("plan\n%s", g.plan)
	}
	return phase("config parse failed", boot.Check(g.plan))
}

// receive takes the configuration from the port.
func (g *guest) receive() error {
	b, err := g.agent.Bootstrap()
	if err != nil {
		return phase("bootstrap receive failed", err)
	}
	if g.plan, err = plan.FromBootstrap(b, os.Environ()); err != nil {
		return phase("bootstrap validation failed", err)
	}
	g.plan.Generation = g.agent.Speaks()
	return nil
}

// openPort waits for the port and opens it.
func (g *guest) openPort() error {
	device, err := waitPort(portName, time.Now().Add(portDeadline))
	if err != nil {
		return err
	}
	if g.port, err = sys.OpenPort(device); err != nil {
		return err
	}
	g.port.Patient.Store(true) // The host may connect later than we open.
	g.agent = agent.Open(g.port)
	return nil
}

// waitPort finds a port. It mostly is there, and no timer is made before.
func waitPort(name string, deadline time.Time) (string, error) {
	device, err := sys.FindPort(name)
	if err == nil {
		return device, nil
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	tick := time.NewTicker(portInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-late.C:
			return "", err
		}
		if device, err = sys.FindPort(name); err == nil {
			return device, nil
		}
	}
}

// bringUp carries the plan out.
func (g *guest) bringUp() (err error) {
	start := sys.BootTime()
	g.machine, err = boot.Up(g.plan, g.greet)
	g.init = sys.BootTime() - start
	if g.debug["boot"] {
		for _, t := range g.machine.Timings {
			logf("step %s took %v", t.Step, t.Took)
		}
	}
	return err
}

// greet is the handshake, in the middle of the boot: the root is final, and
// nothing of the user's is mounted yet.
func (g *guest) greet(user string) error {
	var who plan.Credential // Of a blank spec: root's ids, whatever the files say.
	if strings.TrimSpace(user) != "" {
		var err error
		if who, err = session.LookUpAccount(user); err != nil {
			return err
		}
	}
	return g.agent.Greet(g.plan.Generation, who.UID, who.GID)
}

// told has told the host why the boot has failed, if there is a way to, and
// returns that.
func (g *guest) told(why error) error {
	if g.agent == nil {
		return why
	}
	failure := wire.InitUnknown
	switch {
	case errors.Is(why, plan.ErrUserNotFound):
		failure = wire.InitUserNotFound
	case errors.Is(why, plan.ErrGroupNotFound):
		failure = wire.InitGroupNotFound
	}
	if err := g.agent.Fail(failure, why.Error()); err != nil {
		logf("%v", err)
	}
	return why
}

// serve serves the host until the end.
func (g *guest) serve() (end agent.End, err error) {
	if g.procs, err = proc.New(proc.Options{
		Restricted: g.plan.Commands.Restricted, Protected: g.score, Before: g.beforeCommands,
	}); err != nil {
		return 0, err
	}
	if err := g.port.Join(); err != nil {
		return 0, err
	}
	g.port.Patient.Store(false) // From now on a closed port means that the host has gone.
	commands := g.plan.Commands
	commands.Env = plan.Overlay(commands.Env, g.machine.Env)
	return g.agent.Serve(&session.Host{
		Generation: g.plan.Generation,
		Procs:      g.procs,
		Commands:   commands,
		Limits:     commandLimits(g.machine.CommandLimits),
	}, &wire.Ready{
		BootTimeNS:   uint64(g.started),
		InitTimeNS:   uint64(g.init),
		AgentVersion: version,
	})
}

// beforeCommands makes the agent fit for having company. Without any, nobody takes
// processors or process ids from it or sends it signals, so that no boot waits for this.
func (g *guest) beforeCommands() {
	if err := sys.SetName("agentd"); err != nil { // The kernel named it after its file, init.krun or init.
		logf("%v", err)
	}
	g.harden()
}

// harden makes the agent survive what other processes of the guest can do, once.
func (g *guest) harden() {
	if g.hard {
		return
	}
	g.hard = true
	sys.Outlive()
	sys.ReserveThreads(runtime.NumCPU() + spareThreads)
	if err := sys.RestWatcher(sys.CommandSlack); err != nil { // It costs time, nothing else.
		logf("%v", err)
	}
	if err := sys.Urgent(); err != nil { // Without it a fork bomb leaves the agent a turn every few seconds.
		logf("%v", err)
	}
}

func commandLimits(list []plan.Limit) (all []proc.Limit) {
	for _, l := range list {
		all = append(all, proc.Limit{Resource: int(l.Resource), Soft: l.Soft, Hard: l.Hard})
	}
	return slices.Clip(all)
}

// finish gives the commands their time, and no more: signals to thousands of
// processes and their ends can take far longer than any wait for them.
func (g *guest) finish(grace time.Duration) {
	inTime(func() { g.agent.Finish(grace) }, grace+killGrace)
}

// inTime does something, or leaves it to itself when its time is over.
func inTime(do func(), limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// killAll ends every process that is left and gives the reaper a moment.
func (g *guest) killAll() {
	if err := sys.KillAll(); err != nil {
		logf("%v", err)
	}
	if g.procs == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	if err := g.procs.Wait(ctx); err != nil {
		logf("commands are still there: %v", err)
	}
}

// end ends the machine. A restart is what every microVM monitor takes for its
// end: without ACPI, a power-off only halts the processor.
func (g *guest) end() {
	inTime(sys.Sync, lastSync) // A file system that hangs must not keep the machine.
	logf("%v", sys.Restart())
	select {} // The kernel refused; dying would be a panic.
}

// phase names the part of the life in which err came up, as hosts find it in
// the console's log.
func phase(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, "agentd: "+format+"\n", args...) }
