package machines

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// AGENTCTL.md has the numbers of machines that stay.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/AGENTCTL.md", "Machines that stay").Says(t,
		fmt.Sprintf("the last %s at least, %s on disk at most", doctest.Size(outputFile), doctest.Size(2*outputFile)),
		fmt.Sprintf("after %v s, then twice that and so on up to a minute; a life of %s", firstPause.Seconds(), doctest.Time(longLife)),
		fmt.Sprintf("(%d; -1 for ever)", int(DefaultGrace.Seconds())),
		fmt.Sprintf("every %s, %s at most, unhealthy after %d failures", doctest.Time(healthInterval), doctest.Time(healthTimeout), healthRetries),
	)
	if mostPause.Minutes() != 1 {
		t.Errorf("the longest pause is %v; the document says a minute", mostPause)
	}
}
