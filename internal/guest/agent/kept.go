package agent

import (
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/session/exec"
	"github.com/agentd-go/agentd/wire"
)

// isCommand reports whether a session sends the output of a command.
func isCommand(s session.Session) bool {
	switch s.(type) {
	case *exec.Session, *exec.Viewer:
		return true
	}
	return false
}

// kept acts on a request about kept commands (protocol section 8.12).
func (a *Agent) kept(id uint32, m wire.Message) {
	switch m := m.(type) {
	case *wire.KeptAttach:
		a.attach(id, m)
	case *wire.KeptList:
		a.reply(id, a.exec.List())
	case *wire.KeptRelease:
		a.reply(id, a.exec.Release(m.Name))
	}
}

// attach begins a session of a kept command.
func (a *Agent) attach(id uint32, m *wire.KeptAttach) {
	command := a.exec.Find(m.Name)
	if command == nil {
		a.reply(id, &wire.ExecFailed{
			Kind: wire.FailureNotFound, Message: "exec session error: there is no kept command " + session.Repeated(m.Name),
		})
		return
	}
	if why, full := a.begin(id, func(ending session.Ending) session.Session {
		return a.exec.Attach(id, command, m, ending)
	}); why != "" {
		a.reply(id, refusal(why, full))
	}
}
