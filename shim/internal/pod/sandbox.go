package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/cri"
	"github.com/agentd-go/agentd/shim/internal/host"
	"github.com/agentd-go/agentd/shim/internal/options"
	"github.com/agentd-go/agentd/shim/internal/pact"
)

// A Sandbox is a pod that containerd has the shim make, without a pause container: the
// machine runs before its first container and after its last, and agentd-pod holds the
// namespaces. Its fields are guarded by Pod.mu.
type Sandbox struct {
	config  cri.Pod
	state   Status
	created time.Time
	ended   time.Time
	code    uint32
	done    chan struct{}
}

// A SandboxStatus is what a sandbox tells of itself.
type SandboxStatus struct {
	State          Status
	Created, Ended time.Time // Ended is zero before the end.
	Code           uint32
}

// Sandbox returns the sandbox, or nil if the pod is none.
func (p *Pod) Sandbox() *Sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sandbox
}

// CreateSandbox makes the pod a sandbox in the network namespace of the given path;
// "" is one of its own, for a pod of no CRI.
func (p *Pod) CreateSandbox(config cri.Pod, network string) error {
	p.making.Lock()
	defer p.making.Unlock()
	if !p.Empty() || p.Sandbox() != nil {
		return fmt.Errorf("sandbox %q: %w", p.cfg.ID, ErrExists)
	}
	if _, ok := config.Annotations[options.Prefix+"kernel"]; ok {
		return &cri.RefusedError{
			Field: "annotations", Value: options.Prefix + "kernel",
			Reason: "not taken with the shim as sandboxer: containerd passes every annotation there, and this one names a file of the host",
		}
	}
	o := p.cfg.Options
	if err := o.Annotate(config.Annotations); err != nil {
		return err
	}
	if err := host.EnterNetwork(p.cfg.Origin, network); err != nil {
		return err
	}
	if config.CgroupParent != "" {
		if err := p.cfg.Charge(cgroupOf(config.CgroupParent, p.cfg.ID)); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sandbox = &Sandbox{config: config, created: time.Now(), done: make(chan struct{})}
	return nil
}

// cgroupOf is the cgroup of a pod below its parent, in the form that CRI gives to its
// containers: systemd's if the parent is a slice.
func cgroupOf(parent, id string) string {
	if base := path.Base(parent); strings.HasSuffix(base, ".slice") {
		return base + ":cri-containerd:" + id
	}
	return path.Join(parent, id)
}

// StartSandbox boots the machine.
func (p *Pod) StartSandbox(ctx context.Context) error {
	p.making.Lock()
	defer p.making.Unlock()
	box := p.Sandbox()
	switch {
	case box == nil:
		return fmt.Errorf("sandbox %q: %w", p.cfg.ID, ErrNotFound)
	case p.SandboxStatus().State != Created:
		return fmt.Errorf("sandbox %q: it was started before: %w", p.cfg.ID, ErrState)
	}
	held, err := heldOf(box.config)
	if err != nil {
		return err
	}
	m, err := p.boot(ctx, specOf(box.config), held)
	if err != nil {
		p.endSandbox(failedStatus)
		return err
	}
	p.mu.Lock()
	box.state = Running
	p.mu.Unlock()
	go func() {
		<-m.vm.Done()
		p.endSandbox(killedStatus)
	}()
	return nil
}

// specOf is a sandbox in the words of a specification, for what decides a machine.
func specOf(config cri.Pod) *specs.Spec {
	annotations := map[string]string{}
	for name, value := range config.Annotations {
		if strings.HasPrefix(name, options.Prefix) {
			annotations[name] = value
		}
	}
	for name, value := range map[string]int64{
		sandboxMemory: config.Limits.MemoryBytes, sandboxQuota: config.Limits.CPUQuota, sandboxPeriod: config.Limits.CPUPeriod,
	} {
		if value > 0 {
			annotations[name] = strconv.FormatInt(value, 10)
		}
	}
	return &specs.Spec{Hostname: config.Hostname, Annotations: annotations, Linux: &specs.Linux{Sysctl: config.Sysctls}}
}

// heldOf is what the guest holds for it. A file that the host lacks is empty.
func heldOf(config cri.Pod) (*pact.Held, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	hosts, err := readSmall("/etc/hosts")
	if err != nil {
		return nil, err
	}
	resolv, err := readSmall("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	files := config.Files(name, hosts, resolv)
	return &pact.Held{Hostname: strings.TrimSpace(files["hostname"]), Sysctls: config.Sysctls, Files: files}, nil
}

// maxFile bounds a file of the host's /etc that is copied.
const maxFile = 256 << 10

func readSmall(name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case info.Size() > maxFile:
		return "", fmt.Errorf("%s: %d bytes, want %d at most", name, info.Size(), maxFile)
	}
	b, err := os.ReadFile(name)
	return string(b), err
}

// SandboxStatus tells of the sandbox, which there must be.
func (p *Pod) SandboxStatus() SandboxStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.sandbox
	return SandboxStatus{b.state, b.created, b.ended, b.code}
}

// Done is closed when the sandbox has ended.
func (b *Sandbox) Done() <-chan struct{} { return b.done }

// endSandbox notes the end, once.
func (p *Pod) endSandbox(code uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.sandbox
	if b.state == Stopped {
		return
	}
	b.state, b.code, b.ended = Stopped, code, time.Now()
	close(b.done)
}

// StopSandbox ends the machine, with what runs in it. The containers stay until they
// are deleted.
func (p *Pod) StopSandbox() error {
	p.making.Lock()
	defer p.making.Unlock()
	if p.Sandbox() == nil {
		return fmt.Errorf("sandbox %q: %w", p.cfg.ID, ErrNotFound)
	}
	p.endSandbox(0)
	return p.Close()
}
