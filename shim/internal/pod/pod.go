package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/host"
	"github.com/agentd-go/agentd/shim/internal/options"
	"github.com/agentd-go/agentd/shim/internal/plan"
	"github.com/agentd-go/agentd/shim/internal/stream"
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrState    = errors.New("not possible in this state")
	ErrEnded    = errors.New("the pod's machine has ended")
)

// A Config is what a pod is made of.
type Config struct {
	ID        string      // Of the pod: its first container's, or its sandbox's.
	Namespace string      // Of containerd.
	Dir       string      // The pod's own directory of this host, made by the caller.
	Master    string      // The directory with the programs of the machine's root.
	Origin    host.Origin // Where the paths of volumes lead.
	// Network is containerd's network namespace, in which hooks run.
	Network *os.File
	Options options.Options
	Log     func(format string, args ...any)
	// Events is told what happens unasked. It must not block.
	Events Events
	// Charge moves this process into a cgroup by its name in a specification.
	Charge func(cgroupsPath string) error
}

// Events are what happens in a pod without a call.
type Events interface {
	Exited(p *Process)
	OutOfMemory(container string)
}

// A Pod is a machine with containers.
type Pod struct {
	cfg    Config
	making sync.Mutex

	mu         sync.Mutex
	machine    *machine // nil before the first container and after the last.
	containers map[string]*Container
	number     int
	sandbox    *Sandbox // nil in a pod whose first container makes it.
}

// New returns a pod without a machine.
func New(cfg Config) *Pod { return &Pod{cfg: cfg, containers: map[string]*Container{}} }

// ID is the pod's: its first container's, or its sandbox's.
func (p *Pod) ID() string { return p.cfg.ID }

// A Container is one of a pod.
type Container struct {
	ID, Bundle string
	Init       *Process
	number     int
	root       string // The specification's, of this host.
	hooks      *specs.Hooks
	state      specs.State
	execs      map[string]*Process // Guarded by Pod.mu.
}

// A Create is what a container is made of.
type Create struct {
	ID, Bundle string
	Rootfs     []*types.Mount
	Streams    stream.Spec
}

// Container finds a container.
func (p *Pod) Container(id string) (*Container, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %q: %w", id, ErrNotFound)
}

// Process finds a container's first process, or one beside it.
func (p *Pod) Process(id, exec string) (*Container, *Process, error) {
	c, err := p.Container(id)
	if err != nil {
		return nil, nil, err
	}
	if exec == "" {
		return c, c.Init, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := c.execs[exec]; e != nil {
		return c, e, nil
	}
	return nil, nil, fmt.Errorf("process %q of container %q: %w", exec, id, ErrNotFound)
}

// Execs are the processes beside a container's first.
func (p *Pod) Execs(c *Container) (all []*Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range c.execs {
		all = append(all, e)
	}
	return all
}

// Empty reports whether the pod has no container.
func (p *Pod) Empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.containers) == 0
}

// ReadSpec reads the config.json of a bundle.
func ReadSpec(bundle string) (*specs.Spec, error) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(b, spec); err != nil {
		return nil, fmt.Errorf("%s/config.json: %w", bundle, err)
	}
	return spec, nil
}

// Create makes a container. When it returns an error nothing of it is left, and a
// client that waits at the streams' fifos goes on.
func (p *Pod) Create(ctx context.Context, r Create) (c *Container, err error) {
	p.making.Lock()
	defer p.making.Unlock()
	defer func() {
		if err != nil {
			stream.Release(r.Streams)
		}
	}()
	if _, err := p.Container(r.ID); err == nil {
		return nil, fmt.Errorf("container %q: %w", r.ID, ErrExists)
	}
	spec, err := ReadSpec(r.Bundle)
	if err != nil {
		return nil, err
	}
	p.number++
	made, err := plan.Container(plan.Request{Spec: spec, ID: r.ID, Pod: p.cfg.ID, Number: p.number, Held: p.Sandbox() != nil})
	if err != nil {
		return nil, err
	}
	c = newContainer(r, spec, p.number)
	if spec.Hooks != nil {
		if err := p.runHooks(ctx, c, "createRuntime", append(spec.Hooks.Prestart, spec.Hooks.CreateRuntime...)); err != nil { //nolint:staticcheck // Deprecated, and still used.
			return nil, err
		}
	}
	m, err := p.bootFor(ctx, spec)
	if err != nil {
		return nil, errors.Join(err, p.poststop(ctx, c))
	}
	if err := p.createIn(ctx, m, c, r, made); err != nil {
		return nil, errors.Join(err, p.poststop(ctx, c), p.endIfEmpty())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.containers[r.ID] = c
	return c, nil
}

func newContainer(r Create, spec *specs.Spec, number int) *Container {
	c := &Container{ID: r.ID, Bundle: r.Bundle, number: number, hooks: spec.Hooks, execs: map[string]*Process{}}
	c.state = specs.State{ID: r.ID, Status: specs.StateCreated, Pid: os.Getpid(), Bundle: r.Bundle, Annotations: spec.Annotations}
	c.Init = newProcess(r.ID, "", r.Streams)
	if c.root = spec.Root.Path; !filepath.IsAbs(c.root) {
		c.root = filepath.Join(r.Bundle, c.root)
	}
	return c
}

// createIn makes the container in the machine and connects its streams.
func (p *Pod) createIn(ctx context.Context, m *machine, c *Container, r Create, made plan.Result) error {
	config, err := json.Marshal(made.Spec)
	if err != nil {
		return err
	}
	if err := m.tree.Add(c.number, r.Rootfs, c.root, made.Binds, config); err != nil {
		return err
	}
	if err := m.create(ctx, c); err != nil {
		return errors.Join(err, m.tree.Remove(c.number))
	}
	if err := c.Init.connect(ctx, m); err != nil {
		return errors.Join(err, m.delete(ctx, c.Init), m.tree.Remove(c.number))
	}
	go p.await(m, c.Init)
	return nil
}

// await tells of a process's end.
func (p *Pod) await(m *machine, proc *Process) {
	code := m.wait(proc)
	proc.finish(code, func() { p.cfg.Events.Exited(proc) })
}

// Start starts a container's process, or one that Exec has taken down. Tell is called
// after the start and before the process's exit is told.
func (p *Pod) Start(ctx context.Context, c *Container, proc *Process, tell func()) error {
	m, err := p.running()
	if err != nil {
		return err
	}
	proc.order.Lock()
	defer proc.order.Unlock()
	if proc.Exec != "" {
		if err := p.startExec(ctx, m, proc); err != nil {
			stream.Release(proc.Streams)
			proc.fail()
			return err
		}
	} else if err := m.start(ctx, proc); err != nil {
		return err
	}
	proc.markStarted()
	tell()
	if proc.Exec == "" && c.hooks != nil {
		c.state.Status = specs.StateRunning
		if err := p.runHooks(ctx, c, "poststart", c.hooks.Poststart); err != nil {
			p.cfg.Log("%v", err)
		}
	}
	return nil
}

func (p *Pod) startExec(ctx context.Context, m *machine, proc *Process) error {
	if proc.Status() != Created {
		return fmt.Errorf("process %q: it was started before: %w", proc.Exec, ErrState)
	}
	// A terminal is made with its process, and keeps what is written to it.
	steps := []func(context.Context, *machine) error{proc.connect, func(ctx context.Context, m *machine) error { return m.start(ctx, proc) }}
	if proc.Streams.Terminal {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(ctx, m); err != nil {
			proc.disconnect()
			return err
		}
	}
	go p.await(m, proc)
	return nil
}

// Exec takes down a process to start beside a container's first.
func (p *Pod) Exec(ctx context.Context, id, exec string, spec []byte, streams stream.Spec) error {
	if err := plan.CheckID("exec_id", exec); err != nil {
		return err
	}
	c, err := p.Container(id)
	if err != nil {
		return err
	}
	m, err := p.running()
	if err != nil {
		return err
	}
	if _, _, err := p.Process(id, exec); err == nil {
		return fmt.Errorf("process %q of container %q: %w", exec, id, ErrExists)
	}
	proc := newProcess(id, exec, streams)
	if err := m.exec(ctx, proc, spec); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.execs[exec] = proc
	return nil
}

// Delete forgets a process that has ended, or was not started, with its container if
// it was the first. After the last container the machine ends.
func (p *Pod) Delete(ctx context.Context, c *Container, proc *Process) error {
	if proc.Status() == Running {
		return fmt.Errorf("process %q of container %q runs: %w", proc.Exec, c.ID, ErrState)
	}
	p.making.Lock()
	defer p.making.Unlock()
	m, err := p.running()
	if err == nil {
		if err := m.delete(ctx, proc); err != nil && (proc.Status() != Stopped || ctx.Err() != nil) {
			return err
		} else if err != nil { // The guest keeps nobody from forgetting what has ended.
			p.cfg.Log("container %s, process %q: the guest does not remove it: %v", c.ID, proc.Exec, err)
		}
	}
	proc.settle(ctx)
	if proc.Exec != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(c.execs, proc.Exec)
		return nil
	}
	return p.remove(ctx, c)
}

// remove forgets a container of which the guest has nothing any more.
func (p *Pod) remove(ctx context.Context, c *Container) error {
	p.mu.Lock()
	m := p.machine
	delete(p.containers, c.ID)
	execs := c.execs
	c.execs = nil
	p.mu.Unlock()
	for _, e := range execs {
		e.disconnect()
	}
	var err error
	if m != nil {
		err = m.tree.Remove(c.number)
	}
	return errors.Join(err, p.poststop(ctx, c), p.endIfEmpty())
}

func (p *Pod) runHooks(ctx context.Context, c *Container, kind string, hooks []specs.Hook) error {
	return host.RunHooks(ctx, p.cfg.Origin, p.cfg.Network, kind, hooks, c.state)
}

func (p *Pod) poststop(ctx context.Context, c *Container) error {
	if c.hooks == nil || len(c.hooks.Poststop) == 0 {
		return nil
	}
	c.state.Status, c.state.Pid = specs.StateStopped, 0
	return p.runHooks(context.WithoutCancel(ctx), c, "poststop", c.hooks.Poststop)
}

// Machine returns the machine, or an error if there is none.
func (p *Pod) running() (*machine, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.machine == nil {
		return nil, fmt.Errorf("no machine runs: %w", ErrEnded)
	}
	return p.machine, p.machine.alive()
}

// Emulated reports whether the machine runs without hardware virtualization.
func (p *Pod) Emulated() bool {
	m, err := p.running()
	return err == nil && m.vm.Emulated()
}

// Close ends the pod, whatever runs in it.
func (p *Pod) Close() error {
	p.mu.Lock()
	m := p.machine
	p.machine = nil
	p.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.close()
}

// endIfEmpty ends the machine after the last container. A pod that is a sandbox ends
// when containerd says so.
func (p *Pod) endIfEmpty() error {
	if !p.Empty() || p.Sandbox() != nil {
		return nil
	}
	return p.Close()
}
