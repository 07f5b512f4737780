package life

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session/files"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

const (
	// portName is the virtio port between host and guest.
	portName = "agent"

	// portDeadline is how long the port may take to appear. Its name comes by a message of
	// the host after the device, some 10 ms later on an idle machine.
	portDeadline = 10 * time.Second
	portInterval = 10 * time.Millisecond

	// secondDeadline is how long the second port may take to appear and the host to
	// answer on it, as in the reference agents.
	secondDeadline = 60 * time.Second

	// spareThreads is how many threads the agent needs, besides one for each processor,
	// when no process id is left for a new one. One is for each system call that may hang
	// (the spawner, teardown, the heartbeat, the sessions). The runtime keeps three: its
	// monitor, its template of threads, and the one that takes signals.
	spareThreads = 6 + files.BlockingCalls

	// A host of generation 7 kills the machine 2 s after it has asked for the end. The
	// commands get most of that to handle SIGTERM. The rest is for reaping the killed ones
	// and for the file systems.
	shutdownGrace = 1000 * time.Millisecond
	killGrace     = 300 * time.Millisecond
	downDeadline  = 5 * time.Second // Longer than that: other hosts wait 8 s, and a sync may be large.
	lastSync      = time.Second     // For a boot that failed. After a shutdown everything is on disk.
)

// A Life is the state of agentd: the machine, and what has been opened for it so far. It is
// used once, by one goroutine.
type Life struct {
	// Open finds and opens the port of a name until the deadline; nil opens the virtio port.
	// Tests open other links.
	Open func(name string, deadline time.Time) (*sys.Port, error)

	version string
	started time.Duration
	alarm   *sys.Alarm // Checks the clock; nil before and after.
	debug   map[string]bool
	init    time.Duration // How long bringUp took.

	plan    *plan.Plan
	agent   *agent.Agent
	machine *boot.Machine
	procs   *proc.Table
	port    *sys.Port
	second  *sys.Port // The second port; may be nil.

	hard   bool // harden has run.
	fresh  bool // The host has asked for a new clock and random state.
	stored bool // It has asked for credit when input is stored.

	// For the agent beside another init:
	terminated chan struct{} // Closed when the init sends SIGTERM.
	console    func()        // Makes the console standard error again; nil without a log.
	score      *sys.Score
}

// New returns the life of a program that has just started. The agent reports the version to the host.
func New(version string) *Life {
	l := &Life{version: version, started: sys.BootTime(), debug: parseDebug(os.Getenv(bootenv.Debug))}
	l.Open = l.openPort
	return l
}

// Run boots the machine, serves the host and takes the machine down. PID 1 calls [End]
// after it. If the plan has another init, this process becomes that init and Run does not
// return, unless that fails; a second agent goes on with [Life.Continue].
func (l *Life) Run() error {
	if err := errors.Join(l.setAlarm(), enterRoot()); err != nil {
		return bootenv.EarlyInit.Wrap(err)
	}
	if err := l.configure(); err != nil {
		return l.reportFailure(err)
	}
	if err := l.proveClock(); err != nil {
		return l.reportFailure(bootenv.Init.Wrap(err))
	}
	if err := l.bringUp(); err != nil {
		return l.abandon(bootenv.Init.Wrap(err))
	}
	if l.machine.Init != nil {
		err := bootenv.Handoff.Wrap(l.handOver()) // Returns only if it failed.
		l.killAll()
		return l.abandon(err)
	}
	if err := l.bind(); err != nil {
		return l.abandon(bootenv.SecondPort.Wrap(err))
	}
	end, err := l.serve()
	l.takeDown(end)
	return bootenv.AgentLoop.Wrap(err)
}

// abandon ends a boot that failed. It tells the host, and takes down the mounts made so
// far, because there may be disks among them.
func (l *Life) abandon(why error) error {
	why = l.reportFailure(why)
	if os.Getpid() == 1 {
		l.machine.Down(downDeadline)
	}
	return why
}

// takeDown ends the commands and leaves the file systems clean.
func (l *Life) takeDown(end agent.End) {
	if end == agent.Shutdown {
		l.finish(shutdownGrace)
	}
	if os.Getpid() != 1 {
		return
	}
	l.killAll()
	l.machine.Down(downDeadline)
}

// enterRoot changes to the real root if the kernel started us from another.
func enterRoot() error {
	if spec := os.Getenv(bootenv.Root); spec != "" {
		return boot.EnterRoot(spec)
	}
	return nil
}

// serve serves the host until the end.
func (l *Life) serve() (end agent.End, err error) {
	if l.procs, err = proc.New(proc.Options{
		Restricted: l.plan.Commands.Restricted, Protected: l.score, Before: l.beforeCommands, Group: l.group(),
	}); err != nil {
		return 0, err
	}
	if err := l.port.Join(); err != nil {
		return 0, err
	}
	l.port.Patient.Store(false) // From now on a closed port is the end of the host.
	commands := l.plan.Commands
	commands.Env = plan.Overlay(commands.Env, l.machine.Env)
	return l.agent.Serve(agent.Config{
		Generation: l.plan.Generation,
		Procs:      l.procs,
		Commands:   commands,
		Limits:     commandLimits(l.machine.CommandLimits),
		Root:       l.machine.RootDisk,
		Stored:     l.stored,
		Renew:      l.renew,
	}, &wire.Ready{
		BootTimeNS:   uint64(l.started),
		InitTimeNS:   uint64(l.init),
		AgentVersion: l.version,
		Fresh:        l.fresh,
	})
}

// group is the control group of commands. Beside another init, which owns the tree, there
// is none.
func (l *Life) group() string {
	if os.Getpid() != 1 {
		return ""
	}
	return sys.WorkloadGroup
}

// beforeCommands prepares the agent for other processes in the guest. They can take
// processors and process ids from it and send it signals. It runs just before the first of
// them starts, so that no boot waits for it.
func (l *Life) beforeCommands() {
	if err := sys.SetName("agentd"); err != nil { // The kernel named it after its file, init.krun or init.
		sys.Logf("%v", err)
	}
	l.harden()
}

// harden protects the agent from other processes of the guest, once.
func (l *Life) harden() {
	if l.hard {
		return
	}
	l.hard = true
	sys.Outlive()
	sys.ReserveThreads(runtime.NumCPU() + spareThreads)
	if err := sys.RestWatcher(sys.CommandSlack); err != nil { // An error costs time, nothing else.
		sys.Logf("%v", err)
	}
	if err := sys.KeepProgram(); err != nil { // An error costs time when a command takes all memory.
		sys.Logf("%v", err)
	}
	if err := sys.Urgent(); err != nil { // Without it a fork bomb lets the agent run only every few seconds.
		sys.Logf("%v", err)
	}
}

func commandLimits(list []plan.Limit) (all []proc.Limit) {
	for _, l := range list {
		all = append(all, proc.Limit{Resource: int(l.Resource), Soft: l.Soft, Hard: l.Hard})
	}
	return slices.Clip(all)
}
