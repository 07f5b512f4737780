package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

// oomLine matches what a kernel prints when it kills a process for lack of memory
// (mm/oom_kill.c), after the time and perhaps the caller. Root in the guest can print
// the same line; it only makes its own machine's reason wrong.
var oomLine = regexp.MustCompile(`(?m)^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? (?:Out of memory|Memory cgroup out of memory).*: Killed process (\d+) \(([^)\n]*)\)`)

// noise matches kernel lines that look like errors. Our machines have no PCI bus on
// purpose.
var noise = regexp.MustCompile(`^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? PCI: Fatal: No config space access function found`)

// IsNoise reports whether a line of a console looks like an error but is none.
func IsNoise(line []byte) bool { return noise.Match(line) }

// outOfMemory names the process that the kernel has killed for lack of memory; "" means
// none.
func outOfMemory(console []byte) string {
	found := oomLine.FindAllSubmatch(console, -1)
	if len(found) == 0 {
		return ""
	}
	last := found[len(found)-1]
	return fmt.Sprintf("out of memory: the kernel killed %s (%s)", last[1], last[2])
}

// An OOMKill is a process that the machine's kernel has killed for lack of memory.
type OOMKill struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // The first 15 bytes of its program's name.

	// Limit says that a limit of memory was reached, as of 'agentctl exec --memory', and
	// not the end of the machine's memory.
	Limit bool `json:"limit"`
}

// OOMKills lists what the kernel has killed, from its console.
func OOMKills(console []byte) (all []OOMKill) {
	for _, m := range oomLine.FindAllSubmatch(console, -1) {
		pid, err := strconv.Atoi(string(m[1]))
		if err == nil {
			all = append(all, OOMKill{pid, string(m[2]), bytes.Contains(m[0], []byte("Memory cgroup"))})
		}
	}
	return all
}

// Reasons for the end of a life that has not failed.
const (
	reasonStopped = "it was stopped"
	reasonKilled  = "it was killed"
	reasonTimeout = "it was stopped: its timeout has passed"
	reasonGuest   = "the guest ended it"
	// reasonInit is the reason if another init is the first process: a kernel for
	// virtual machines restarts the machine silently when the init exits.
	reasonInit = "the guest ended it: its init has restarted it, or exited"
	// errorDead is the error of a machine that is in the middle of a life and has no
	// supervisor.
	errorDead = "its supervisor was killed, or this host went down"
)

// errCommandLost says that the machine ended before its command.
var errCommandLost = errors.New("the guest ended before its command did")

// killedWait is how long explain waits for the machine's end. The machine has ended by
// then, unless QEMU could not even be killed.
const killedWait = time.Second

// explain writes the reason for a life's end into the state. failed is the command's
// error, ended the machine's error, and asked the reason why the machine was told to
// end; each may be nil.
func (l *Live) explain(failed, ended, asked error) error {
	ctx, cancel := context.WithTimeout(context.Background(), killedWait)
	defer cancel()
	if end, ok := errors.AsType[*sandbox.EndError](l.Wait(ctx)); ok && end.Reason == sandbox.EndPanic {
		return fmt.Errorf("the guest's kernel ended it: Kernel panic - not syncing: %s\nend of the console:\n  %s", end.Message, strings.ReplaceAll(end.Trace, "\n", "\n  "))
	}
	if oom := outOfMemory(l.Console()); oom != "" {
		l.state.OOMKilled = true
		defer func() { l.state.Reason = strings.TrimPrefix(l.state.Reason+"; "+oom, "; ") }()
	}
	if _, lost := errors.AsType[*client.LinkError](failed); lost {
		failed = errCommandLost
		if ended != nil {
			failed = nil // The console says why.
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
	Status int // 126 or 127, as in a shell; 125 for any other reason.
	Text   string
}

func (e *CommandError) Error() string { return e.Text }

// StartError turns the error of a command's start into a *CommandError if the guest has
// refused the command. It returns other errors unchanged.
func StartError(name string, err error) error {
	start, ok := errors.AsType[*client.StartError](err)
	if !ok {
		return err
	}
	const other, notExecutable, notFound = 125, 126, 127
	// Judge by kind, not by error number: a missing working directory is ENOENT too.
	switch start.Kind { //nolint:exhaustive // Shells know two kinds.
	case client.FailureNotFound:
		return &CommandError{notFound, name + ": " + refusal(start)}
	case client.FailurePermissionDenied, client.FailureNotExecutable:
		return &CommandError{notExecutable, name + ": " + refusal(start)}
	default:
		return &CommandError{other, err.Error()}
	}
}

// refusal returns the agent's text without the part that the caller adds itself.
func refusal(e *client.StartError) string {
	if _, text, ok := strings.Cut(e.Message, `": `); ok && strings.HasPrefix(e.Message, "spawn ") {
		return text
	}
	return e.Message
}
