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
	// lastWords is how long a machine whose link has ended gets to print why and
	// to end; the console comes by another way than the link.
	lastWords = 3 * time.Second
	// consoleLines is about a screen.
	consoleLines = 24
)

// A BootError is a machine that did not become ready.
type BootError struct {
	Err     error
	Reason  string // The agent's own words, by the port or on the console; "" if it had none.
	Failure string // What the port said it was: "user_not_found", "group_not_found", "unknown"; "" if nothing.
	Console string // The last lines of the console.
	Command string // Lines for sh that repeat the machine by hand.
	Kept    string // The directory with the machine's files, "" if they are gone.
}

// Error tells all of it, over several lines; a name that the machine does not know is
// the caller's to correct, and no riddle of the console's: that is one line.
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

func (e *BootError) Unwrap() error { return e.Err }

// deadClock says that the machine came up without a timer.
func (e *BootError) deadClock() bool { return strings.Contains(e.Reason, ": "+bootenv.DeadClock+": ") }

// bootError collects what is known about a failed boot. A machine that ended by
// itself is given the time to say why.
func (m *Machine) bootError(ctx context.Context, err error) *BootError {
	wait, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	ended := m.vm.Wait(wait) // An error is part of the console or is err itself.
	text := strings.ReplaceAll(string(m.vm.Console()), "\r", "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	failed := &BootError{
		Err:     err,
		Reason:  reason(lines),
		Console: strings.Join(lines[max(0, len(lines)-consoleLines):], "\n"),
		Command: m.vm.Command(),
	}
	if told, ok := errors.AsType[*client.InitError](err); ok {
		failed.Reason, failed.Failure = told.Message, told.Failure
		if ended == nil {
			failed.Err = fmt.Errorf("%w; the machine ended", err)
		}
	}
	return failed
}

// reason returns the agent's last line that tells of a failed phase.
func reason(lines []string) (found string) {
	for _, line := range lines {
		if said, ok := bootenv.Failure(line); ok {
			found = said
		}
	}
	return found
}
