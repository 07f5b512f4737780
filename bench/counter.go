package main

import (
	"context"
	_ "embed" // The plug-in's source.
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/vmm"
)

//go:embed plugin/counter.c
var pluginSource []byte

// The first counters; those of the watched functions follow (plugin/counter.c).
const (
	user = iota
	kernel
	repeats // Steps of repeated string instructions.
	watchedFirst
)

// callPrefix begins the name of the kernel's function for a system call of 64 bits.
const callPrefix = "__x64_sys_"

// watchedToo are other functions that are counted: switches of threads, wakes, and requests to
// servers of files.
var watchedToo = []string{"__switch_to_asm", "try_to_wake_up", "fuse_simple_request"}

// A tally is a reading of all counters, or a difference of two for each operation.
type tally []float64

// since is the difference to an earlier reading, divided by a number of operations.
func (t tally) since(before tally, operations int) tally {
	d := make(tally, len(t))
	for i := range t {
		d[i] = (t[i] - before[i]) / float64(operations)
	}
	return d
}

// leastTally is the least for each counter: other work on the host lets the guest's scheduler
// do more, and never less.
func leastTally(all []tally) tally {
	m := slices.Clone(all[0])
	for _, t := range all[1:] {
		for i := range m {
			m[i] = min(m[i], t[i])
		}
	}
	return m
}

// A counter is the memory that the plug-in of a machine's QEMU counts in.
type counter struct {
	functions []string // Those that are watched.
	memory    []byte
	blocks    []byte // See hotspots; empty without a profile.
}

// newCounter builds the plug-in and makes all further machines of the rig use it. The agent
// is booted once without it, for the addresses of the kernel's functions.
func (r *rig) newCounter(ctx context.Context, a *opponent, profiled bool) (*counter, error) {
	dir, err := os.MkdirTemp(r.dir, "counter-")
	if err != nil {
		return nil, err
	}
	source, plugin := filepath.Join(dir, "counter.c"), filepath.Join(dir, "counter.so")
	if err := os.WriteFile(source, pluginSource, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-shared", "-fPIC", "-o", plugin, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the plug-in of QEMU (needs gcc): %w\n%s", err, out)
	}
	c := &counter{}
	table, err := c.symbols(ctx, r, a)
	if err != nil {
		return nil, err
	}
	qemu, err := vmm.FindQEMU(r.architecture)
	if err != nil {
		return nil, err
	}
	counts, list, script := filepath.Join(dir, "counts"), filepath.Join(dir, "table"), filepath.Join(dir, "qemu")
	r.qemu = script
	more := ""
	if profiled {
		more = ",blocks=" + counts + ".blocks"
	}
	return c, errors.Join(
		os.WriteFile(list, []byte(table), 0o600),
		os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\" -plugin %s,counts=%s,table=%s%s\n", qemu, plugin, counts, list, more), 0o700), //nolint:gosec // G306: a program.
		mapFile(&c.memory, counts, (watchedFirst+len(c.functions))*8),
		mapFile(&c.blocks, counts+".blocks", blockRoom*blockSize),
	)
}

// mapFile makes and maps a file for the plug-in.
func mapFile(memory *[]byte, path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // The mapping keeps it.
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	*memory, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return err
}

// symbols reads the addresses of the watched functions in a machine, and returns the
// plug-in's table.
func (c *counter) symbols(ctx context.Context, r *rig, a *opponent) (table string, err error) {
	m, err := r.boot(ctx, a)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	pattern := " [tT] (" + callPrefix + ".*|" + strings.Join(watchedToo, "|") + ")$"
	got, err := m.do(ctx, "grep", "-E", pattern, "/proc/kallsyms")
	if err != nil {
		return "", fmt.Errorf("the guest kernel's functions: %w", err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(got.text)) {
		f := strings.Fields(line)
		fmt.Fprintf(&b, "%s %d\n", f[0], watchedFirst+len(c.functions))
		c.functions = append(c.functions, f[2])
	}
	return b.String(), nil
}

// read reads all counters.
func (c *counter) read() tally {
	t := make(tally, len(c.memory)/8)
	for i := range t {
		t[i] = float64(binary.NativeEndian.Uint64(c.memory[8*i:]))
	}
	return t
}

// clear sets all counters to zero.
func (c *counter) clear() { clear(c.memory) }
