package guest

import (
	"errors"
	"os"
	"time"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // Lets the library limit devices.
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// stateDir is where the library keeps what it knows of containers.
const stateDir = pact.Run + "/containers"

// destroyGrace is for the processes of a container that was killed to be gone.
const destroyGrace = 10 * time.Second

// A container is one of the pod: the library's, and the processes that we started.
type container struct {
	id    string
	box   *libcontainer.Container // Set by create, before others see the container work.
	init  *process
	execs map[string]*process // Guarded by Server.mu.
}

// create makes the container; its first process waits before its program.
func (c *container) create(spec *specs.Spec) error {
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: c.id, Spec: spec, NoNewKeyring: false})
	if err != nil {
		return err
	}
	if c.box, err = libcontainer.Create(stateDir, c.id, config); err != nil {
		return err
	}
	c.init.spec = spec.Process
	if err := errorOf(c.init.open, func() error { return c.init.run(c.box, true) }); err != nil {
		return errors.Join(err, c.box.Destroy())
	}
	go c.reap(c.init, !config.Namespaces.IsPrivate(configs.NEWPID))
	return nil
}

// reap waits for a process. The processes of a container without a pid namespace of
// its own outlive its first one, and must not.
func (c *container) reap(p *process, shared bool) {
	state, err := p.lib.Wait()
	if shared {
		_ = c.signalAll(unix.SIGKILL) // They may be gone by themselves.
	}
	p.finish(state, err)
}

func (c *container) start() error {
	if !c.init.begin() {
		return status.Errorf(codes.FailedPrecondition, "container %q is not in the state created", c.id)
	}
	return c.box.Exec()
}

func (c *container) exec(p *process) error {
	if !p.begin() {
		return status.Error(codes.FailedPrecondition, "the process has been started before")
	}
	if err := p.run(c.box, false); err != nil {
		p.finish(nil, err)
		return err
	}
	go c.reap(p, false)
	return nil
}

func (c *container) signalAll(sig unix.Signal) error {
	pids, err := c.box.Processes()
	if err != nil {
		return err
	}
	sent := 0
	for _, pid := range pids {
		if unix.Kill(pid, sig) == nil {
			sent++
		}
	}
	if sent == 0 {
		return os.ErrProcessDone
	}
	return nil
}

// destroy removes the container. One that was never started is killed first.
func (c *container) destroy() error {
	if c.init.wasStarted() && c.init.isRunning() {
		return status.Errorf(codes.FailedPrecondition, "container %q is running", c.id)
	}
	_ = c.init.signal(unix.SIGKILL) // It may have ended.
	select {
	case <-c.init.ended:
	case <-time.After(destroyGrace):
		return status.Errorf(codes.DeadlineExceeded, "container %q: its first process does not end", c.id)
	}
	return c.box.Destroy()
}

// watchMemory tells of each time that the container ran out of memory.
func (c *container) watchMemory(tell func()) {
	ooms, err := c.box.NotifyOOM()
	if err != nil {
		return // The container is gone.
	}
	for range ooms {
		tell()
	}
}

// update changes the limits that are named, and leaves the others.
func (c *container) update(r *specs.LinuxResources) error {
	config := c.box.Config()
	limits := *config.Cgroups.Resources
	changeMemory(&limits, r.Memory)
	changeCPU(&limits, r.CPU)
	if r.Pids != nil {
		limits.PidsLimit = r.Pids.Limit
	}
	if r.Unified != nil {
		limits.Unified = r.Unified
	}
	group := *config.Cgroups
	group.Resources = &limits
	config.Cgroups = &group
	return c.box.Set(config)
}

func changeMemory(limits *cgroups.Resources, m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	if m.Limit != nil {
		// Without a word about swap there is as much as before, beside the memory.
		if limits.MemorySwap > 0 {
			limits.MemorySwap += *m.Limit - limits.Memory
		}
		limits.Memory = *m.Limit
	}
	if m.Swap != nil {
		limits.MemorySwap = *m.Swap
	}
	if m.Reservation != nil {
		limits.MemoryReservation = *m.Reservation
	}
}

func changeCPU(limits *cgroups.Resources, cpu *specs.LinuxCPU) {
	if cpu == nil {
		return
	}
	if cpu.Shares != nil {
		limits.CpuShares = *cpu.Shares
		limits.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*cpu.Shares)
	}
	if cpu.Quota != nil {
		limits.CpuQuota = *cpu.Quota
	}
	if cpu.Period != nil {
		limits.CpuPeriod = *cpu.Period
	}
}
