package sandbox

import (
	"bytes"
	"context"
	"regexp"
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
// guest, Shutdown or another client has requested, and an [*EndError] otherwise. If ctx
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

// panicLine matches a kernel's panic on its console (kernel/panic.c), after the time
// and, with CONFIG_PRINTK_CALLER, the thread or processor.
var panicLine = regexp.MustCompile(`(?m)^(?:<\d>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? Kernel panic - not syncing: (.*)$`)

// endOf derives the end from the known facts. QEMU ends in the same way after a panic
// as after a restart, so only the console shows a panic.
func endOf(killed bool, err error, console []byte) error {
	if err != nil {
		reason := EndFailed
		if killed {
			reason = EndKilled
		}
		return &EndError{Reason: reason, Err: err}
	}
	words := panicLine.FindSubmatch(bytes.ReplaceAll(console, []byte("\r"), nil))
	if words == nil {
		return nil
	}
	return &EndError{Reason: EndPanic, Message: string(words[1])}
}
