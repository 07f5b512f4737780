package vmm

import (
	"os"
	"slices"
	"strings"
)

// ProcessorID identifies the processor type, because a guest's state fits only one
// type: the model and the flags of the first processor in /proc/cpuinfo.
func ProcessorID() string {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	b, err := boardOf(HostArchitecture)
	if err != nil {
		return ""
	}
	return b.processorID(string(cpuinfo))
}

func (b *board) processorID(cpuinfo string) string {
	var id []string
	first, _, _ := strings.Cut(cpuinfo, "\n\n")
	for line := range strings.Lines(first) {
		key, value, _ := strings.Cut(line, ":")
		if slices.Contains(b.processor, strings.TrimSpace(key)) {
			id = append(id, strings.TrimSpace(value))
		}
	}
	return strings.Join(id, "\n")
}
