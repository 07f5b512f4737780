package pod

import (
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
// container, else the settings; and the overhead beside them.
func size(spec *specs.Spec, o options.Options) (cpus, memoryMiB int) {
	memory, quota, period := number(spec, sandboxMemory), number(spec, sandboxQuota), number(spec, sandboxPeriod)
	if r := spec.Linux.Resources; r != nil && memory == 0 && r.Memory != nil && r.Memory.Limit != nil {
		memory = *r.Memory.Limit
	}
	if r := spec.Linux.Resources; r != nil && quota == 0 && r.CPU != nil && r.CPU.Quota != nil && r.CPU.Period != nil {
		quota, period = *r.CPU.Quota, int64(min(*r.CPU.Period, math.MaxInt32))
	}
	cpus, memoryMiB = o.CPUs, o.MemoryMiB
	if quota > 0 && period > 0 {
		cpus = int((quota + period - 1) / period)
	}
	const mib = 1 << 20
	if memory > 0 {
		// A limit below the default stays a limit: the guest enforces it. The machine
		// is not made smaller, because memory that it does not touch costs nothing.
		memoryMiB = max(memoryMiB, int((memory+mib-1)/mib))
	}
	return max(1, min(cpus, runtime.NumCPU())), memoryMiB + o.OverheadMiB
}

func number(spec *specs.Spec, annotation string) int64 {
	n, err := strconv.ParseInt(spec.Annotations[annotation], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
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
