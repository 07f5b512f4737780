package plan

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// BOOT.md has the bounds of a configuration, and PROTOCOL.md those of accounts.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	for section, sentences := range map[string][]string{
		"2":   {fmt.Sprintf("%d MiB of memory take the place of the share", memoryShareMiB)},
		"4":   {fmt.Sprintf("cut to %d bytes", maxShownValue), fmt.Sprintf("1 to %d bytes", maxHostname), fmt.Sprintf("mtu %d", defaultMTU)},
		"4.2": {fmt.Sprintf("over %d bytes, which no serial is", maxSerial), fmt.Sprintf("over %d bytes; a component over %d bytes", maxPath, maxComponent), fmt.Sprintf("more than %d", maxMounts)},
		"5":   {DefaultPath, ShareDir + "/scripts:"},
	} {
		doctest.Open(t, "docs/BOOT.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "docs/PROTOCOL.md", "8.3").Says(t, "of each the first "+doctest.Size(MaxAccountFile), fmt.Sprintf("more than %d groups", maxGroups))
	doctest.Open(t, "docs/PROTOCOL.md", "8.2").Says(t, DefaultPath)
}
