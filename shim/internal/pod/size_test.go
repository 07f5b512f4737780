package pod

import (
	"runtime"
	"strconv"
	"strings"
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
		{"no limit, said by -1", &specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{sandboxMemory: "-1", sandboxQuota: "-1"}}, 1, 640},
		{"more than there is", &specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{
			sandboxMemory: "9223372036854775807", sandboxQuota: "9223372036854775807", sandboxPeriod: "1",
		}}, runtime.NumCPU(), 8192 + 128},
	} {
		cpus, memory, err := size(c.spec, options.Default(), 8192)
		if cpus != min(c.cpus, runtime.NumCPU()) || memory != c.memory || err != nil {
			t.Errorf("%s: %d CPUs and %d MiB, %v; want %d and %d", c.name, cpus, memory, err, c.cpus, c.memory)
		}
	}
}

func TestSizeIsNumbers(t *testing.T) {
	for _, name := range []string{sandboxMemory, sandboxQuota, sandboxPeriod} {
		for _, value := range []string{"", "x", "1Gi", "99999999999999999999"} {
			_, _, err := size(&specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{name: value}}, options.Default(), 8192)
			if err == nil || !strings.Contains(err.Error(), name+" "+strconv.Quote(value)) {
				t.Errorf("%s=%q: %v", name, value, err)
			}
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
