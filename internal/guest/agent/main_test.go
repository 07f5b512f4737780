package agent_test

import (
	"os"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/proc"
)

// TestMain lets the test binary be the relay, as agentd's main does.
func TestMain(m *testing.M) {
	if os.Args[0] == proc.RelayName {
		os.Exit(proc.Relay(os.Args))
	}
	os.Exit(m.Run())
}
