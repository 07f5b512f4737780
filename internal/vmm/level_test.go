package vmm

import (
	"slices"
	"strings"
	"testing"
)

// emulated are the flags that Linux shows under -cpu max of QEMU 7.2.
const emulated = `flags		: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush acpi mmx fxsr sse sse2 ss ht syscall nx mmxext pdpe1gb rdtscp lm 3dnowext 3dnow rep_good nopl cpuid extd_apicid pni pclmulqdq monitor ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy svm cr8_legacy abm sse4a 3dnowprefetch vmmcall fsgsbase bmi1 avx2 smep bmi2 erms mpx adx smap clflushopt clwb xsaveopt xgetbv1 arat npt vgif umip pku ospke vaes la57
`

func TestProcessorLevel(t *testing.T) {
	most := strings.TrimSpace(emulated) + " avx512f avx512bw avx512cd avx512dq avx512vl\n"
	for name, tt := range map[string]struct {
		cpuinfo string
		want    int
	}{
		"none":             {"", 1},
		"another key":      {"vmx flags	: " + strings.TrimPrefix(most, "flags		: "), 1},
		"emulated":         {"processor	: 0\n" + emulated, emulatedLevel},
		"AVX512":           {most, 4},
		"without AVX":      {strings.Replace(most, " avx ", " ", 1), 2},
		"AVX512 in part":   {strings.Replace(most, " avx512vl", "", 1), 3},
		"without SSE4.2":   {strings.Replace(most, " sse4_2", "", 1), 1},
		"the first counts": {emulated + most, emulatedLevel},
	} {
		if got := processorLevel(processorFlags(tt.cpuinfo)); got != tt.want {
			t.Errorf("%s: v%d, want v%d", name, got, tt.want)
		}
	}
	if got := Level(AMD64, TCG); got != emulatedLevel {
		t.Errorf("TCG has v%d", got)
	}
	if got := Level(AMD64, KVM); !slices.Contains([]int{1, 2, 3, 4}, got) {
		t.Errorf("this host has v%d", got)
	}
}
