package sandbox

import (
	"context"
	"regexp"
	"strings"
)

// An EndReason says why a machine did not end in order.
type EndReason string

// The reasons of an [EndError].
const (
	EndKilled EndReason = "killed" // Kill was called, or a Shutdown reached its deadline.
	EndPanic  EndReason = "panic"  // The guest's kernel panicked.
	EndFailed EndReason = "failed" // QEMU or a file server of the machine ended or was killed.
)

// An EndError says that a machine did not end in order.
type EndError struct {
	Reason  EndReason
	Err     error  // The details, over several lines; nil for a panic.
	Message string // The kernel's message, for a panic.
	Trace   string // The console from that message on, for a panic: at most 24 lines.
}

// Error returns the reason and the details.
func (e *EndError) Error() string {
	switch e.Reason {
	case EndPanic:
		return "the machine's kernel panicked: " + e.Message
	case EndKilled:
		return "the machine was killed"
	case EndFailed:
		return "the machine failed: " + e.Err.Error()
	}
	return "the machine ended: " + string(e.Reason)
}

// Unwrap returns Err.
func (e *EndError) Unwrap() error { return e.Err }

// Wait waits for the end of the machine. It returns nil for an end in order, which the
// guest, Shutdown or another client has requested, and an [*EndError] otherwise. If the
// kernel has panicked, that is the reason, even if the machine was killed later. If ctx
// ends first, it returns ctx's error. It may be called more than once. It releases no
// resources: call Close after it.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.vm.Done():
		return endOf(m.killed.Load(), m.vm.Wait(context.WithoutCancel(ctx)), m.vm.Console())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Lines of a kernel on its console (kernel/panic.c, kernel/reboot.c), after the time
// and, with CONFIG_PRINTK_CALLER, the thread or processor. Root in the guest can print
// the same lines, but only makes its own machine count as failed.
var (
	panicLine = regexp.MustCompile(`(?m)^(?:<\d>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? Kernel panic - not syncing: (.*)$`)
	endLine   = regexp.MustCompile(`(?m)^(?:<\d>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? reboot: `)
)

// traceLines is the number of console lines in an EndError: a panic with its call trace.
const traceLines = 24

// endOf derives the end from the known facts. QEMU ends in the same way after a panic
// as after a restart, so only the console shows a panic.
func endOf(killed bool, err error, console []byte) error {
	switch end := panicOn(console); {
	case end != nil:
		return end
	case err != nil && killed:
		return &EndError{Reason: EndKilled, Err: err}
	case err != nil:
		return &EndError{Reason: EndFailed, Err: err}
	}
	return nil
}

// panicOn returns the end of a kernel that has panicked, or nil. A kernel that ended in
// order later did not panic: a program has printed the line.
func panicOn(console []byte) *EndError {
	text := strings.ReplaceAll(string(console), "\r", "")
	found := panicLine.FindAllStringSubmatchIndex(text, -1)
	if len(found) == 0 {
		return nil
	}
	const start, from, to = 0, 2, 3 // Indexes into the match: the line's start, and its message's start and end.
	last := found[len(found)-1]
	trace := strings.TrimSpace(text[last[start]:])
	if endLine.MatchString(trace) {
		return nil
	}
	lines := strings.Split(trace, "\n")
	return &EndError{
		Reason: EndPanic, Message: text[last[from]:last[to]],
		Trace: strings.Join(lines[:min(len(lines), traceLines)], "\n"),
	}
}
