package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

const (
	// lastWords is how long a machine may take to print the reason and to end after its
	// link has ended. The console is independent of the link.
	lastWords = 3 * time.Second
	// consoleLines is the number of console lines in an error: about a screen.
	consoleLines = 24
)

// A BootError says that a machine did not become ready.
type BootError struct {
	Err     error
	Reason  string // The agent's own message, from the port or the console; "" if it sent none.
	Failure string // The kind of failure from the port: "user_not_found", "group_not_found", "unknown"; "" if none.
	Console string // The last lines of the console.
	Command string // Shell lines that repeat the machine by hand.
	Kept    string // The directory with the machine's files; "" if they were removed.

	missedPatch bool // The kernel ran a breakpoint of its own, see function missedPatch.
}

// Error returns several lines with all details. For an unknown user or group it returns
// one line, because the caller can correct the name without the console.
func (e *BootError) Error() string {
	if f := wire.InitFailure(e.Failure); f == wire.InitUserNotFound || f == wire.InitGroupNotFound {
		return "the machine did not become ready: " + e.Reason
	}
	var b strings.Builder
	b.WriteString("the machine did not become ready: ")
	if e.Reason != "" {
		b.WriteString(e.Reason)
	} else {
		b.WriteString(e.Err.Error())
	}
	if e.Console != "" {
		b.WriteString("\nend of the console:\n  " + strings.ReplaceAll(e.Console, "\n", "\n  "))
	}
	if e.Kept != "" {
		b.WriteString("\nits files are kept in " + e.Kept)
	}
	b.WriteString("\nto repeat it by hand:\n  " + strings.ReplaceAll(strings.TrimSpace(e.Command), "\n", "\n  "))
	return b.String()
}

// Unwrap returns the cause.
func (e *BootError) Unwrap() error { return e.Err }

// passing names a fault that another boot of the same machine rarely has, or returns "".
func (e *BootError) passing() string {
	switch {
	case strings.Contains(e.Reason, ": "+bootenv.DeadClock+": "):
		return bootenv.DeadClock
	case e.missedPatch:
		return "the kernel ran code that it had just replaced (Oops: int3)"
	}
	return ""
}

// missedPatch reports whether a kernel has panicked at a breakpoint of its own. It puts one
// over an instruction while it replaces that, and QEMU's emulation of several processors may
// run the breakpoint when the kernel no longer expects it.
func missedPatch(console string) bool {
	return strings.Contains(console, "] Oops: int3: ") && panicLine.MatchString(console)
}

// bootError collects the details of a failed boot. It waits for the last messages of a
// machine that has ended by itself.
func (m *Machine) bootError(ctx context.Context, err error) *BootError {
	wait, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	ended := m.vm.Wait(wait) // The console or err already includes this error.
	text := strings.ReplaceAll(string(m.vm.Console()), "\r", "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	failed := &BootError{
		Err:     err,
		Reason:  reason(lines),
		Console: strings.Join(lines[max(0, len(lines)-consoleLines):], "\n"),
		Command: m.vm.Command(),

		missedPatch: missedPatch(text),
	}
	if told, ok := errors.AsType[*client.InitError](err); ok {
		failed.Reason, failed.Failure = told.Message, told.Failure
		if ended == nil {
			failed.Err = fmt.Errorf("%w; the machine ended", err)
		}
	}
	return failed
}

// reason returns the agent's last line about a failed phase.
func reason(lines []string) (found string) {
	for _, line := range lines {
		if said, ok := bootenv.Failure(line); ok {
			found = said
		}
	}
	return found
}
