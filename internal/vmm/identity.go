package vmm

import (
	"crypto/sha256"
	"fmt"
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

// ProcessorName is [ProcessorID] for readers: the model, and the beginning of a digest of
// the rest.
func ProcessorName() string {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(cpuinfo), "\nmodel name\t: ")
	model, _, _ := strings.Cut(rest, "\n")
	const shown = 6
	sum := sha256.Sum256([]byte(ProcessorID()))
	return strings.TrimSpace(fmt.Sprintf("%s [%x]", model, sum[:shown]))
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
