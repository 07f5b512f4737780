package agent_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/guest/proc"
)

// TestMain lets the test binary be the launcher, as agentd's main does, and the
// server of the contract's connections.
func TestMain(m *testing.M) {
	if os.Args[0] == serverName {
		fmt.Fprintln(os.Stderr, contract.Serve(func() { fmt.Println("ready") }))
		os.Exit(1)
	}
	if os.Args[0] == countedName {
		serveCounted()
	}
	if os.Args[0] == linesName {
		lines, _ := strconv.Atoi(os.Args[1]) // Our own test's.
		writeLines(lines)
		os.Exit(0)
	}
	if os.Args[0] == proc.LauncherName {
		os.Exit(proc.Launch(os.Args))
	}
	os.Exit(m.Run())
}
