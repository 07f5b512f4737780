package life

import (
	"context"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// finish gives the commands their time, and no more: signals to thousands of
// processes and their ends can take far longer than any wait for them.
func (l *Life) finish(grace time.Duration) {
	inTime(func() { l.agent.Finish(grace) }, grace+killGrace)
}

// inTime does something, or leaves it to itself when its time is over.
func inTime(do func(), limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// killAll ends every process that is left and gives the reaper a moment.
func (l *Life) killAll() {
	if err := sys.KillAll(); err != nil {
		sys.Logf("%v", err)
	}
	if l.procs == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), killGrace)
	defer cancel()
	if err := l.procs.Wait(ctx); err != nil {
		sys.Logf("commands are still there: %v", err)
	}
}

// End ends the machine. A restart is what every microVM monitor takes for its
// end: without ACPI, a power-off only halts the processor. It does not return.
func End() {
	inTime(sys.Sync, lastSync) // A file system that hangs must not keep the machine.
	sys.Logf("%v", sys.Restart())
	select {} // The kernel refused; dying would be a panic.
}
