package sandbox

import (
	"fmt"
	"os"
	"strings"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/vmm"
)

// checkPlan makes the same plan as our agent will make, so that an invalid
// configuration fails before the boot. It skips foreign agents and messages or words of
// the caller, which have rules of their own.
func (c Config) checkPlan() error {
	if c.hooks.Foreign || c.hooks.Bootstrap != nil || len(c.hooks.ExtraWords) > 0 {
		return nil
	}
	words, err := c.words()
	switch {
	case err != nil:
	case c.Configuration == ByEnvironment:
		_, err = plan.FromEnvironment(words)
	default:
		_, err = plan.FromBootstrap(c.bootstrap(), words)
	}
	if err != nil {
		return fmt.Errorf("configuration of the machine: %w", err)
	}
	return nil
}

// checkSize refuses a machine that is larger than its host, and too little room for
// translated code.
func (c Config) checkSize() error {
	if c.TranslationMiB != 0 && c.TranslationMiB < vmm.MinTranslationMiB {
		return fmt.Errorf("%d MiB for translated code: want %d at least, or 0", c.TranslationMiB, vmm.MinTranslationMiB)
	}
	all := hostMemoryMiB("/proc/meminfo")
	if all > 0 && c.MemoryMiB > all {
		return fmt.Errorf("%d MiB of memory: this host has %d", c.MemoryMiB, all)
	}
	return nil
}

// hostMemoryMiB returns the total memory in meminfo(5), or 0 if it cannot be read.
func hostMemoryMiB(meminfo string) (mib int) {
	b, err := os.ReadFile(meminfo)
	if err != nil {
		return 0
	}
	const kib = 1 << 10
	for line := range strings.Lines(string(b)) {
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &mib); n == 1 {
			return mib / kib
		}
	}
	return 0
}
