package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
)

const (
	memoryMiB = 512
	// bootDeadline is some thirty times the duration of a boot under software
	// emulation.
	bootDeadline = 90 * time.Second
)

// A rig holds what all machines of a run share.
type rig struct {
	architecture vmm.Architecture

	cache  *image.Cache
	kernel image.Kernel
	dir    string // For all files; removed at the end.
	cpus   int
	tool   []byte // bench/guest.

	qemu  string   // The emulator; "" for the usual one.
	words []string // More of the kernel's command line.
}

// A machine runs one agent.
type machine struct {
	*link
	agent *opponent
	vm    *vmm.VM
	dir   string

	took  time.Duration // From the start of the monitor to core.ready.
	ready wire.Ready
}

// boot starts a machine and waits for its agent's core.ready.
func (r *rig) boot(ctx context.Context, o *opponent) (*machine, error) {
	m, err := r.start(ctx, o.binary, o.words())
	if err != nil {
		return nil, err
	}
	m.agent = o
	ctx, cancel := context.WithTimeout(ctx, bootDeadline)
	defer cancel()
	start := time.Now()
	first, err := m.greet(ctx, &wire.Bootstrap{})
	m.took = time.Since(start)
	if err != nil {
		err = fmt.Errorf("boot %s: %w; console:\n%s", o.name, err, m.vm.Console())
		return nil, errors.Join(err, m.end())
	}
	go m.run(first)
	return m, nil
}

// words configure an agent by environment.
func (o *opponent) words() []string {
	if o.environment {
		return []string{"MSB_SECURITY_PROFILE=default"}
	}
	return nil
}

// start starts a machine with a program as its first process.
func (r *rig) start(ctx context.Context, program []byte, words []string) (*machine, error) {
	return r.startWith(ctx, program, words, nil)
}

// startWith is start with more devices: furnish, if not nil, adds them and puts their
// files into the machine's directory.
func (r *rig) startWith(ctx context.Context, program []byte, words []string, furnish func(string, *vmm.Machine) error) (*machine, error) {
	dir, err := os.MkdirTemp(r.dir, "machine-")
	if err != nil {
		return nil, err
	}
	root, share := filepath.Join(dir, "root"), filepath.Join(dir, "share")
	if err := r.lay(root, share, program); err != nil {
		return nil, err
	}
	config := vmm.Machine{
		Architecture: r.architecture,

		Kernel:    r.kernel.Path,
		CPUs:      r.cpus,
		MemoryMiB: memoryMiB,
		Cmdline:   append([]string{"root=/dev/root", "rootfstype=virtiofs", "rw", "init=/init.krun"}, append(slices.Clone(words), r.words...)...),
		Shares: []vmm.Share{
			{Tag: "msb_runtime", Dir: share, Private: true},
			{Tag: "/dev/root", Dir: root, Private: true, Steady: true},
		},
	}
	if furnish != nil {
		if err := furnish(dir, &config); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	vm, err := vmm.Start(ctx, config, vmm.Options{QEMU: r.qemu})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &machine{link: newLink(vm.Port()), vm: vm, dir: dir}, nil
}

// lay makes the files of one machine's root and share.
func (r *rig) lay(root, share string, program []byte) error {
	busybox, err := r.cache.FindBusybox(string(r.architecture))
	if err != nil {
		return err
	}
	master, err := r.cache.BusyboxRoot(busybox)
	if err != nil {
		return err
	}
	const everyone = 0o755
	return errors.Join(
		image.CopyTree(root, master),
		os.WriteFile(filepath.Join(root, "init.krun"), program, everyone),
		os.WriteFile(filepath.Join(root, "bin", toolName), r.tool, everyone),
		os.MkdirAll(filepath.Join(share, "scripts"), everyone),
	)
}

// greet does the handshake up to core.ready and returns the bytes after it. It sends
// the configuration if told is not nil.
func (m *machine) greet(ctx context.Context, told *wire.Bootstrap) ([]byte, error) {
	var says client.Handshake
	if !m.agent.environment {
		says.Bootstrap = told
	}
	g, err := says.Run(ctx, m.conn)
	if err != nil {
		return nil, err
	}
	m.agent.generation, m.ready = g.Generation, g.Ready
	return g.Unread, nil
}

// end ends a machine like a power cut.
func (m *machine) end() error {
	m.vm.Kill()
	return os.RemoveAll(m.dir)
}

// spent returns the CPU time that QEMU has used on the host.
func (m *machine) spent() (sum time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", m.vm.Pid())) // The pattern is well formed.
	for _, name := range files {
		b, _ := os.ReadFile(name) // A thread that has ended is no virtual processor.
		running, _, _ := strings.Cut(string(b), " ")
		ns, _ := strconv.ParseInt(running, 10, 64)
		sum += time.Duration(ns)
	}
	return sum
}
