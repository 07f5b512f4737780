package sandbox

import (
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// A Step is one step of the guest's boot.
type Step struct {
	Name string
	Took time.Duration
}

// Steps returns the steps of the boot, for a machine whose Config has "boot" in
// Debug: the agent prints them to its console.
func (m *Machine) Steps() (all []Step) {
	const prefix, middle = bootenv.ConsolePrefix + "step ", " took "
	for line := range strings.Lines(string(m.vm.Console())) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if !ok {
			continue
		}
		name, took, ok := strings.Cut(rest, middle)
		if d, err := time.ParseDuration(took); ok && err == nil {
			all = append(all, Step{name, d})
		}
	}
	return all
}

// Emulated reports whether the machine runs without hardware virtualization.
func (m *Machine) Emulated() bool { return m.layout.machine.Accel != vmm.KVM }
