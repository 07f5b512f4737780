package machines

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/agentd-go/agentd/client"
)

// Lines of a kernel's on its console (kernel/panic.c, mm/oom_kill.c), with the time
// and perhaps the caller before them. A guest's root can print the same: what it gains
// is that its own machine counts as failed.
var (
	panicLine = regexp.MustCompile(`(?m)^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? (Kernel panic - not syncing: .*)$`)
	oomLine   = regexp.MustCompile(`(?m)^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? (?:Out of memory|Memory cgroup out of memory).*: Killed process (\d+) \(([^)\n]*)\)`)
	endLine   = regexp.MustCompile(`(?m)^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? reboot: `)
)

// noise are lines of a kernel's that say nothing is wrong: a machine without PCI is
// what was asked for.
var noise = regexp.MustCompile(`^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? PCI: Fatal: No config space access function found`)

// IsNoise reports whether a line of a console looks like an error and is none.
func IsNoise(line []byte) bool { return noise.Match(line) }

// wordLines is how much of a console an error shows: a panic with its call trace.
const wordLines = 24

// panicked returns what a kernel that panicked has said at last, "" if it did not.
func panicked(console []byte) string {
	text := strings.ReplaceAll(string(console), "\r", "")
	found := panicLine.FindAllStringSubmatchIndex(text, -1)
	if len(found) == 0 {
		return ""
	}
	const start, from, to = 0, 2, 3 // Of the whole line, and of its text.
	last := found[len(found)-1]
	if endLine.MatchString(text[last[start]:]) {
		return "" // The kernel went on to an orderly end: somebody has printed the line.
	}
	lines := strings.Split(strings.TrimSpace(text[last[start]:]), "\n")
	return "the guest's kernel ended it: " + text[last[from]:last[to]] +
		"\nend of the console:\n  " + strings.Join(lines[:min(len(lines), wordLines)], "\n  ")
}

// outOfMemory says whom the kernel has killed for want of memory, "" for nobody.
func outOfMemory(console []byte) string {
	found := oomLine.FindAllSubmatch(console, -1)
	if len(found) == 0 {
		return ""
	}
	last := found[len(found)-1]
	return fmt.Sprintf("out of memory: the kernel killed %s (%s)", last[1], last[2])
}

// Why a life ended that did not fail.
const (
	reasonStopped = "it was stopped"
	reasonKilled  = "it was killed"
	reasonTimeout = "it was stopped: its timeout has passed"
	reasonGuest   = "the guest ended it"
	// reasonInit is the same where another init is the first process: a kernel made for
	// such machines restarts them without a word when that exits.
	reasonInit = "the guest ended it: its init has restarted it, or exited"
	// errorDead is what is known of a machine without a supervisor in the middle of a life.
	errorDead = "its supervisor was killed, or this host went down"
)

// errCommandLost is the end of a machine in the middle of its command.
var errCommandLost = errors.New("the guest ended before its command did")

// explain puts the reason of a life's end into the state. failed is what the command
// has to say, ended what the machine has; asked is why it was told to end, nil if it
// was not.
func (l *Live) explain(failed, ended, asked error) error {
	console := l.Console()
	if words := panicked(console); words != "" {
		return errors.New(words)
	}
	if oom := outOfMemory(console); oom != "" {
		l.state.OOMKilled = true
		defer func() { l.state.Reason = strings.TrimPrefix(l.state.Reason+"; "+oom, "; ") }()
	}
	if _, lost := errors.AsType[*client.LinkError](failed); lost {
		failed = errCommandLost
		if ended != nil {
			failed = nil // Which says why.
		}
	}
	if err := errors.Join(failed, ended); err != nil {
		return err
	}
	l.state.Reason = reasonOf(asked, l.state.Exit, l.machine.record.Config.Init != "")
	return nil
}

func reasonOf(asked error, exit *int, init bool) string {
	switch {
	case errors.Is(asked, errCut):
		return reasonKilled
	case errors.Is(asked, context.DeadlineExceeded):
		return reasonTimeout
	case asked != nil:
		return reasonStopped
	case exit != nil:
		return fmt.Sprintf("its command ended with status %d", *exit)
	case init:
		return reasonInit
	}
	return reasonGuest
}

// A CommandError is a command that could not be started in a machine.
type CommandError struct {
	Status int // 126 or 127, as shells have it; 125 for any other reason.
	Text   string
}

func (e *CommandError) Error() string { return e.Text }

// StartError turns the error of a command's start into a *CommandError, if the guest
// has refused it; others stay as they are.
func StartError(name string, err error) error {
	start, ok := errors.AsType[*client.StartError](err)
	if !ok {
		return err
	}
	const other, notExecutable, notFound = 125, 126, 127
	// By kind and not by number: a directory that does not exist has ENOENT too.
	switch start.Kind { //nolint:exhaustive // Shells have two kinds.
	case client.FailureNotFound:
		return &CommandError{notFound, name + ": " + refusal(start)}
	case client.FailurePermissionDenied, client.FailureNotExecutable:
		return &CommandError{notExecutable, name + ": " + refusal(start)}
	default:
		return &CommandError{other, err.Error()}
	}
}

// refusal is the agent's text without what the caller says itself.
func refusal(e *client.StartError) string {
	if _, text, ok := strings.Cut(e.Message, `": `); ok && strings.HasPrefix(e.Message, "spawn ") {
		return text
	}
	return e.Message
}
