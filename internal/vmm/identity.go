package vmm

import (
	"os"
	"strings"
)

// ProcessorID identifies the processor type, because a guest's state fits only one
// type: the model and the flags of the first processor in /proc/cpuinfo.
func ProcessorID() string {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return processorID(string(cpuinfo))
}

func processorID(cpuinfo string) string {
	var id []string
	first, _, _ := strings.Cut(cpuinfo, "\n\n")
	for line := range strings.Lines(first) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags":
			id = append(id, strings.TrimSpace(value))
		}
	}
	return strings.Join(id, "\n")
}
