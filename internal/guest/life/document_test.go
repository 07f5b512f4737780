package life

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// BOOT.md and PROTOCOL.md have the times and numbers of a life.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	for section, sentences := range map[string][]string{
		"3": {
			fmt.Sprintf("reserve %d threads and one for each processor", spareThreads), "start a timer of " + doctest.Time(alarmAfter),
			"until the machine has run for " + doctest.Time(clockTimeout),
		},
		"22": {"begun anew at " + doctest.Size(logSize), "`/" + ownGroup + "` of cgroup2"},
		"26": {
			fmt.Sprintf("up to %d s for commands", int(shutdownGrace.Seconds())), fmt.Sprintf("up to %v s for the reaper", killGrace.Seconds()),
			"way down, at most " + doctest.Time(downDeadline), fmt.Sprintf("until SIGTERM comes, at most %v s", initGrace.Seconds()),
			fmt.Sprintf("after SIGTERM %v s", othersGrace.Seconds()), fmt.Sprintf("way down, at most %v s", besideDeadline.Seconds()),
		},
		"28": {
			"port " + doctest.Time(portDeadline), fmt.Sprintf("init %v s, others %v s, way down beside an init %v s", initGrace.Seconds(), othersGrace.Seconds(), besideDeadline.Seconds()),
		},
	} {
		doctest.Open(t, "docs/BOOT.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "docs/PROTOCOL.md", "1").Says(t,
		fmt.Sprintf("up to %s for the port's name, asking every %s", doctest.Time(portDeadline), doctest.Time(portInterval)))
	doctest.Open(t, "docs/PROTOCOL.md", "14").Says(t, "takes "+doctest.Time(secondDeadline)+" at most")
}
