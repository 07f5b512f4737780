package agent_test

import (
	"fmt"
	"os"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// countedName is the name of the program that serves an agent on descriptor 3.
const countedName = "agent-counted"

// serveCounted is that program. It ends with its host.
func serveCounted() {
	sys.Outlive()
	_ = sys.RestWatcher(sys.CommandSlack) // As in a machine.
	procs, err := proc.New(proc.Options{})
	if err == nil {
		const port = 3
		_, err = agent.Open(os.NewFile(port, "port")).Serve(
			agent.Config{Generation: speaks, Procs: procs, Commands: plan.Commands{Env: []string{"HOME=/", "PATH=/bin"}, Cwd: "/"}},
			&wire.Ready{BootTimeNS: 1, InitTimeNS: 2, AgentVersion: "test"},
		)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "counted agent:", err)
	}
	os.Exit(0)
}
