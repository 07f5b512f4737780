package pod

import (
	"runtime"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/agentd-go/agentd/shim/internal/options"
)

func TestSize(t *testing.T) {
	limit, quota, period := int64(1<<30), int64(150000), uint64(100000)
	for _, c := range []struct {
		name         string
		spec         *specs.Spec
		cpus, memory int
	}{
		{"no limit", &specs.Spec{Linux: &specs.Linux{}}, 1, 640},
		{"a lone container's", &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &limit}, CPU: &specs.LinuxCPU{Quota: &quota, Period: &period},
		}}}, 2, 1152},
		{"a pod's", &specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{
			sandboxMemory: "2147483648", sandboxQuota: "200000", sandboxPeriod: "100000",
		}}, 2, 2176},
		{"nonsense", &specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{sandboxMemory: "-1", sandboxQuota: "x"}}, 1, 640},
	} {
		cpus, memory := size(c.spec, options.Default())
		if cpus != min(c.cpus, runtime.NumCPU()) || memory != c.memory {
			t.Errorf("%s: %d CPUs and %d MiB, want %d and %d", c.name, cpus, memory, c.cpus, c.memory)
		}
	}
}

func TestShmSize(t *testing.T) {
	for option, want := range map[string]int64{"size=65536k": 64 << 20, "size=1048576": 1 << 20, "size=x": 0, "mode=1777": 0} {
		s := &specs.Spec{Mounts: []specs.Mount{{Destination: "/dev/shm", Options: []string{option}}}}
		if got := shmSize(s); got != want {
			t.Errorf("%s: %d, want %d", option, got, want)
		}
	}
}
