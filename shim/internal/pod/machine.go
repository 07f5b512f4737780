package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/host"
	"github.com/agentd-go/agentd/shim/internal/pact"
)

// readyTime is for agentd-pod to set the pod up: 0.3 s in software emulation on an
// idle host.
const readyTime = 60 * time.Second

// A machine is a pod's, with agentd-pod at work in it.
type machine struct {
	vm      *sandbox.Machine
	tree    host.Tree
	tasks   task.TTRPCTaskService
	rpc     *ttrpc.Client
	pod     *client.Cmd
	input   io.Closer // Of agentd-pod, which ends with it.
	forward io.Closer // Of connections to the loopback; may be nil.
	streams string    // The address of its port of streams.
	guard   *guard
}

// bootFor returns the pod's machine. The first container decides its size and network,
// unless the pod is a sandbox, which has a machine before it has containers.
func (p *Pod) bootFor(ctx context.Context, spec *specs.Spec) (*machine, error) {
	p.mu.Lock()
	m, box := p.machine, p.sandbox
	p.mu.Unlock()
	switch {
	case m != nil:
		return m, m.alive()
	case box != nil:
		return nil, fmt.Errorf("the sandbox does not run: %w", ErrState)
	}
	return p.boot(ctx, spec, nil)
}

func (p *Pod) boot(ctx context.Context, spec *specs.Spec, held *pact.Held) (*machine, error) {
	start := time.Now()
	m, err := p.newMachine(ctx, spec, held)
	if err != nil {
		return nil, fmt.Errorf("boot the pod's machine: %w", err)
	}
	t := m.vm.Timings()
	p.cfg.Log("machine ready after %v: agent resolved %v, ready %v", time.Since(start), t.Resolved, t.Ready)
	p.mu.Lock()
	p.machine = m
	p.mu.Unlock()
	go p.watch(m) //nolint:gosec // It lasts as long as the machine, not as the call.
	return m, nil
}

// newMachine boots a machine with agentd-pod, or leaves nothing.
func (p *Pod) newMachine(ctx context.Context, spec *specs.Spec, held *pact.Held) (_ *machine, err error) {
	cfg, err := p.describe(spec)
	if err != nil {
		return nil, err
	}
	tree, err := host.MakeTree(p.cfg.Dir, p.cfg.Master, p.cfg.Origin)
	defer func() {
		if err != nil {
			err = errors.Join(err, tree.Close())
		}
	}()
	if err != nil {
		return nil, err
	}
	network, err := host.LeadIn()
	if err != nil {
		return nil, err
	}
	defer network.Close()
	cfg.Root, cfg.OwnRoot, cfg.Taps = tree.Root(), true, network.Taps
	cfg.Shares = []sandbox.Share{{Tag: pact.VolumesTag, Dir: tree.Volumes(), SetID: true}}
	m := &machine{tree: tree}
	if m.vm, err = sandbox.Start(ctx, cfg); err != nil {
		return nil, err
	}
	m.guard = newGuard(m.vm.Kill, p.cfg.Log)
	if err := m.startPod(ctx, pact.Start{Network: network.Plan, ShmBytes: shmSize(spec), Sysctls: spec.Linux.Sysctl, Held: held}, p.cfg.Log); err != nil {
		return nil, errors.Join(err, m.vm.Kill())
	}
	if len(network.Taps) > 0 {
		m.forward, err = host.ForwardLoopback(m.dial, p.cfg.Log)
	}
	if err != nil { // Only a port forward misses it.
		p.cfg.Log("connections to the pod's loopback: %v", err)
	}
	return m, nil
}

// runMode is of the guest's /run: what its users need is below.
const runMode = 0o755

// translationMiB is for the translated code of an emulated guest: a pod boots with as
// much work as without a bound, which takes 91 MiB, and a host has many pods. With 16 a
// second container takes half as much work again.
const translationMiB = 24

// describe is the machine as a value, but for what is made for it.
func (p *Pod) describe(spec *specs.Spec) (sandbox.Config, error) {
	o := p.cfg.Options
	if err := o.Annotate(spec.Annotations); err != nil {
		return sandbox.Config{}, err
	}
	total, err := host.TotalMemory()
	if err != nil {
		return sandbox.Config{}, err
	}
	cpus, memory, err := size(spec, o, total)
	if err != nil {
		return sandbox.Config{}, err
	}
	cfg := sandbox.Config{
		Kernel: o.Kernel, Modules: o.Modules, CPUs: cpus, MemoryMiB: memory, Accel: sandbox.Accel(o.Accel), TranslationMiB: translationMiB, Hostname: spec.Hostname,
		Files: filepath.Join(p.cfg.Dir, "machine"), Socket: filepath.Join(p.cfg.Dir, "agent.sock"), ConsoleFile: filepath.Join(p.cfg.Dir, "console"),
		Tmpfs: []sandbox.Tmpfs{{Target: "/run", Mode: runMode}, {Target: "/tmp"}},
		Log:   func(line string) { p.cfg.Log("%s", line) },
	}
	if o.Console {
		cfg.Console = os.Stderr
	}
	return cfg, nil
}

// startPod starts agentd-pod and opens its control connection.
func (m *machine) startPod(ctx context.Context, start pact.Start, log func(string, ...any)) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("the machine has not started %s within %v", pact.Program, readyTime))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil { // The machine was killed; the error says how that looks.
			err = errors.Join(context.Cause(ctx), err)
		}
	}()
	silent := context.AfterFunc(ctx, func() { _ = m.vm.Kill() }) // So that no step waits for ever.
	defer silent()
	m.pod = m.vm.Client().Command(pact.Program)
	input, err := m.pod.StdinPipe()
	if err != nil {
		return err
	}
	output, err := m.pod.StdoutPipe()
	if err != nil {
		return err
	}
	m.input = input
	m.pod.Stderr = newGuestLog(log)
	if err := m.pod.Start(); err != nil {
		return fmt.Errorf("start %s: %w", pact.Program, err)
	}
	if err := json.NewEncoder(input).Encode(start); err != nil {
		return err
	}
	ready, err := readReady(ctx, output)
	if err != nil {
		return err
	}
	m.streams = net.JoinHostPort("127.0.0.1", strconv.Itoa(ready.Streams))
	conn, err := m.vm.Client().DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(ready.Control)))
	if err != nil {
		return err
	}
	m.rpc = ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(m.guard.intercept))
	m.tasks = task.NewTTRPCTaskClient(m.rpc)
	return nil
}

// readReady reads the one line of JSON that agentd-pod says.
func readReady(ctx context.Context, output io.ReadCloser) (ready pact.Ready, err error) {
	stop := context.AfterFunc(ctx, func() { _ = output.Close() })
	defer stop()
	if err := json.NewDecoder(io.LimitReader(output, pact.MaxLine)).Decode(&ready); err != nil {
		return ready, fmt.Errorf("wait for %s: %w", pact.Program, errors.Join(ctx.Err(), err))
	}
	if ready.Error != "" {
		return ready, fmt.Errorf("%s: %q", pact.Program, ready.Error)
	}
	return ready, nil
}

func (m *machine) alive() error {
	select {
	case <-m.vm.Done():
		return ErrEnded
	default:
		return nil
	}
}

// endTime is for a machine without containers to write what is left and end; nobody
// misses what it says after that.
const endTime = 5 * time.Second

// close ends the machine and removes its files.
func (m *machine) close() error {
	if m.forward != nil {
		_ = m.forward.Close()
	}
	_ = m.rpc.Close()
	_ = m.input.Close()
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	_ = m.vm.Shutdown(ctx) // It is killed if it does not end by itself.
	return m.tree.Close()
}
