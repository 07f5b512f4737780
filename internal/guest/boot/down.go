package boot

import (
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// Down undoes what Up did, last first, and leaves the root clean: everything
// written is on its disk. It returns after deadline whatever hangs: a host that
// no longer answers for a file system must not keep the machine.
func (m *Machine) Down(deadline time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		sys.Sync()
		m.undoAll()
		if err := sys.RemountReadOnly("/"); err != nil {
			logf("%v", err)
		}
		sys.Sync()
	}()
	select {
	case <-done:
	case <-time.After(deadline):
		logf("taking the machine down took longer than %v; ending it as it is", deadline)
	}
}

func (m *Machine) undoAll() {
	for len(m.undo) > 0 {
		last := m.undo[len(m.undo)-1]
		m.undo = m.undo[:len(m.undo)-1]
		if err := last.do(); err != nil {
			logf("%s: %v", last.what, err)
		}
	}
}
