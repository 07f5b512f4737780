package vmm

import (
	"os"
	"strings"
)

// ProcessorID tells processors apart for which a guest's state is not the same: the
// model and the flags of the first one in /proc/cpuinfo.
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
