package main

import (
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// bind opens a second port for raw records, if the host asks for one by a word on the
// kernel command line and is of a generation that has it. Beside another init
// there is none: its host may come back, by the first port alone.
func (g *guest) bind() error {
	if !agent.HasSecond(g.plan.Generation) {
		return nil
	}
	// A word with a point in it reaches no environment.
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil || !asks(line) {
		return err
	}
	deadline := time.Now().Add(secondDeadline)
	device, err := waitPort(wire.SecondPort, deadline)
	if err != nil {
		return err
	}
	if g.second, err = sys.OpenPort(device); err != nil {
		return err
	}
	if err := g.second.Join(); err != nil {
		return err
	}
	g.second.Patient.Store(true)
	defer g.second.Patient.Store(false)
	var connection [16]byte
	if err := sys.Random(connection[:]); err != nil {
		return err
	}
	return g.agent.Bind(g.second, connection, deadline)
}

func asks(line []byte) bool {
	return strings.Contains(" "+strings.TrimSpace(string(line))+" ", " "+wire.SecondPortWord+" ")
}
