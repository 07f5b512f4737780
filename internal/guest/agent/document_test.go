package agent

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// PROTOCOL.md and ARCHITECTURE.md have the bounds of the agent.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	one, all := doctest.Size(maxReplies), doctest.Size(maxAllReplies)
	for section, sentences := range map[string][]string{
		"1":    {fmt.Sprintf("or %s | boot ends", doctest.Time(greetingDeadline))},
		"7.3":  {"more than " + doctest.Time(clockTolerance) + " off"},
		"7.8":  {fmt.Sprintf("has a queue of %s for them, all together %s", one, all)},
		"8.1":  {fmt.Sprintf("%d sessions run", maxSessions), fmt.Sprintf("there are %d sessions already", maxSessions)},
		"11":   {fmt.Sprintf("%s for each client, %s together", one, all)},
		"15.1": {"more than " + doctest.Size(maxUnheard) + " of the agent's own answers unread"},
		"15.2": {fmt.Sprintf("is frozen (%s)", doctest.Time(freezeLimit)), doctest.Time(syncLimit) + " together", fmt.Sprintf("1 to %d printable ASCII", maxAttempt)},
		"16":   {"waits up to " + doctest.Time(diskDeadline), fmt.Sprintf("at most %d are under way", maxGrowths)},
	} {
		doctest.Open(t, "docs/PROTOCOL.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "ARCHITECTURE.md", "What never happens").Says(t,
		"Sessions: "+doctest.Count(maxSessions), fmt.Sprintf("The agent's own answers: %s for each client, %s together", one, all))
}
