package bootenv

import (
	"fmt"
	"slices"
	"strings"
)

// ConsolePrefix begins each line that the agent prints on the console.
const ConsolePrefix = "agentd: "

// DeadClock begins, after the phase, the error of a boot whose machine has no working
// timer. This is a rare fault of the monitor, and the host can start the machine again.
const DeadClock = "the machine's clock is dead"

// A Phase is a part of the agent's life. The error that ends the agent names it (boot
// section 0).
type Phase string

// The phases, in their order.
const (
	EarlyInit           Phase = "early init failed"
	ConsoleOpen         Phase = "console open failed"
	BootstrapReceive    Phase = "bootstrap receive failed"
	BootstrapValidation Phase = "bootstrap validation failed"
	ConfigParse         Phase = "config parse failed"
	Init                Phase = "init failed"
	Handoff             Phase = "handoff failed"
	SecondPort          Phase = "bulk transport binding failed"
	AgentLoop           Phase = "agent loop error"
)

// Phases returns all phases, in their order.
func Phases() []Phase {
	return []Phase{
		EarlyInit, ConsoleOpen, BootstrapReceive, BootstrapValidation, ConfigParse,
		Init, Handoff, SecondPort, AgentLoop,
	}
}

// Wrap puts the phase before an error. It returns nil for nil.
func (p Phase) Wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", p, err)
}

// Failure returns the error in a line of the console that reports a failed phase, with
// the phase. ok is false for any other line.
func Failure(line string) (said string, ok bool) {
	said, ok = strings.CutPrefix(line, ConsolePrefix)
	return said, ok && slices.ContainsFunc(Phases(), func(p Phase) bool { return strings.HasPrefix(said, string(p)+": ") })
}
