package life

import (
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// bind opens a second port for raw records if a word on the kernel command line asks for
// one and the host's generation has it. Beside another init, and for a host that may come
// back, there is none: such a host uses the first port only.
func (l *Life) bind() error {
	// The kernel passes no word with a dot in it on as a variable.
	line, err := os.ReadFile("/proc/cmdline")
	switch {
	case err != nil:
		return err
	case asks(line, wire.ReturningHostWord):
		l.agent = agent.Resume(l.port, l.agent.Unread())
		return nil
	case !agent.HasSecond(l.plan.Generation) || !asks(line, wire.SecondPortWord):
		return nil
	}
	deadline := time.Now().Add(secondDeadline)
	if l.second, err = l.Open(wire.SecondPort, deadline); err != nil {
		return err
	}
	if err := l.second.Join(); err != nil {
		return err
	}
	l.second.Patient.Store(true)
	defer l.second.Patient.Store(false)
	var connection [16]byte
	if err := sys.Random(connection[:]); err != nil {
		return err
	}
	return l.agent.Bind(l.second, connection, deadline)
}

func asks(line []byte, word string) bool {
	return strings.Contains(" "+strings.TrimSpace(string(line))+" ", " "+word+" ")
}
