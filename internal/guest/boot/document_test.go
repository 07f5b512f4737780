package boot

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// BOOT.md has the times and bounds of the steps.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	for section, sentences := range map[string][]string{
		"7":  {fmt.Sprintf("below %d", agentFiles)},
		"10": {fmt.Sprintf("waited for, %s, every %s", doctest.Time(deviceDeadline), doctest.Time(deviceInterval))},
		"11": {fmt.Sprintf("every %s for %s", doctest.Time(knobInterval), doctest.Time(knobDeadline))},
		"18": {"Over " + doctest.Size(maxBundle), "over " + doctest.Size(maxBundle)},
		"19": {"A profile over " + doctest.Size(maxProfile)},
		"26": {fmt.Sprintf("longer than %v s", busyDeadline.Seconds()), "longer than " + doctest.Time(undoWait), doctest.Time(scriptGrace) + " later SIGTERM", fmt.Sprintf("signal %d, its restart", systemdReboot)},
	} {
		doctest.Open(t, "docs/BOOT.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "docs/SECURITY.md", "What each may do").Says(t, fmt.Sprintf("%s, %s, %s", doctest.Size(maxBundle), doctest.Size(maxBundle), doctest.Size(maxProfile)))
}
