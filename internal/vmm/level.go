package vmm

import (
	"os"
	"slices"
	"strings"
)

// emulatedLevel is the level of -cpu max of QEMU 7.2 and newer: AVX2, but not AVX512.
const emulatedLevel = 3

// processorLevels are the flags of /proc/cpuinfo that a level of x86-64 adds to the one
// below it, from v2 on: x86-64 psABI, table "Micro-Architecture Levels". Linux calls
// SSE3 pni, and LZCNT abm; it shows avx only where the system saves its registers.
var processorLevels = [][]string{
	{"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
	{"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
	{"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}

// Level is the level of the architecture that programs in a machine can use: for amd64
// 1 to 4, the host's under [KVM] and QEMU's under [TCG]; for arm64 1, which is v8. Auto is
// resolved by [DetectAccel].
func Level(arch Architecture, a Accel) int {
	b, err := boardOf(arch)
	if err != nil {
		return 1
	}
	if a == Auto {
		a, _ = DetectAccel(arch)
	}
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo") // Without it the level is the lowest.
	return b.level(a, string(cpuinfo))
}

func levelAMD64(a Accel, cpuinfo string) int {
	if a == TCG {
		return emulatedLevel
	}
	return processorLevel(processorFlags(cpuinfo))
}

func processorLevel(flags []string) int {
	for i, adds := range processorLevels {
		if slices.ContainsFunc(adds, func(f string) bool { return !slices.Contains(flags, f) }) {
			return i + 1
		}
	}
	return len(processorLevels) + 1
}

// processorFlags are the flags of the first processor in /proc/cpuinfo.
func processorFlags(cpuinfo string) []string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "flags" {
			return strings.Fields(value)
		}
	}
	return nil
}
