package pod

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/options"
)

// The annotations by which CRI tells the sum of a pod's limits.
const (
	sandboxMemory = "io.kubernetes.cri.sandbox-memory"
	sandboxQuota  = "io.kubernetes.cri.sandbox-cpu-quota"
	sandboxPeriod = "io.kubernetes.cri.sandbox-cpu-period"
)

// size decides the machine: the pod's limits by annotation, else those of a lone
// container, else the settings; and the overhead beside them. It is no larger than the
// host, whose memory is hostMiB: containers without a limit have one of 8 EiB.
func size(spec *specs.Spec, o options.Options, hostMiB int) (cpus, memoryMiB int, err error) {
	var memory, quota, period int64
	for name, field := range map[string]*int64{sandboxMemory: &memory, sandboxQuota: &quota, sandboxPeriod: &period} {
		if *field, err = number(spec, name); err != nil {
			return 0, 0, err
		}
	}
	if r := spec.Linux.Resources; r != nil && memory == 0 && r.Memory != nil && r.Memory.Limit != nil {
		memory = *r.Memory.Limit
	}
	if r := spec.Linux.Resources; r != nil && quota == 0 && r.CPU != nil && r.CPU.Quota != nil && r.CPU.Period != nil {
		quota, period = *r.CPU.Quota, int64(min(*r.CPU.Period, math.MaxInt32))
	}
	cpus, memoryMiB = o.CPUs, o.MemoryMiB
	if quota > 0 && period > 0 {
		cpus = int(min((quota-1)/period+1, math.MaxInt32))
	}
	const mib = 1 << 20
	if memory > 0 {
		// A limit below the default stays a limit: the guest enforces it. The machine
		// is not made smaller, because memory that it does not touch costs nothing.
		memoryMiB = max(memoryMiB, int(min((memory-1)/mib+1, int64(hostMiB))))
	}
	return max(1, min(cpus, runtime.NumCPU())), memoryMiB + o.OverheadMiB, nil
}

// number reads an annotation. CRI writes 0, or a negative number, for no limit.
func number(spec *specs.Spec, annotation string) (int64, error) {
	text, ok := spec.Annotations[annotation]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("annotation %s %q: want a number", annotation, text)
	}
	return max(n, 0), nil
}

// shmSize is the size of the pod's /dev/shm, as its first container has it.
func shmSize(spec *specs.Spec) int64 {
	i := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
	if i < 0 {
		return 0
	}
	for _, o := range spec.Mounts[i].Options {
		text, ok := strings.CutPrefix(o, "size=")
		if !ok {
			continue
		}
		unit := int64(1)
		if k, ok := strings.CutSuffix(text, "k"); ok {
			text, unit = k, 1<<10
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n * unit
		}
	}
	return 0
}
