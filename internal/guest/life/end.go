package life

import (
	"context"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// finish ends the commands and returns after grace in any case: signals to thousands of
// processes, and the reaping of these, can take far longer.
func (l *Life) finish(grace time.Duration) {
	inTime(func() { l.agent.Finish(grace) }, grace+killGrace)
}

// inTime calls do and returns after limit at the latest. do goes on then.
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

// killAll kills every other process and gives the reaper a moment.
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

// End ends the machine and does not return. It restarts the machine, because every microVM
// monitor takes that as the end. A power-off without ACPI only halts the processor.
func End() {
	inTime(sys.Sync, lastSync) // A file system that hangs must not keep the machine.
	sys.Logf("%v", sys.Restart())
	select {} // The kernel refused. The end of PID 1 would be a kernel panic.
}
