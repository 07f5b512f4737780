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
	EndKilled EndReason = "killed" // Kill was called, or the time of a Shutdown was over.
	EndPanic  EndReason = "panic"  // The guest's kernel panicked.
	EndFailed EndReason = "failed" // QEMU or a file server of the machine ended, or was killed by another.
)

// An EndError is a machine that did not end in order.
type EndError struct {
	Reason  EndReason
	Err     error  // What is known of it, over several lines; nil for a panic.
	Message string // The kernel's last words, for a panic.
}

// Error tells the reason and what is known of it.
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

// Wait waits for the end of the machine, and says how it ended: nil for an end in order,
// which the guest, Shutdown or another client has asked for, else an [*EndError]. When
// ctx ends first it returns ctx's error. It may be called more than once, and gives
// nothing back: that is for Close, which must follow.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.vm.Done():
		return endOf(m.killed.Load(), m.vm.Wait(context.WithoutCancel(ctx)), m.vm.Console())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// panicLine is a line of a kernel's on its console (kernel/panic.c), after the time and,
// with CONFIG_PRINTK_CALLER, the thread or processor.
var panicLine = regexp.MustCompile(`(?m)^(?:<\d>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? Kernel panic - not syncing: (.*)$`)

// endOf reads an end from what is known of it: the monitor ends a machine whose kernel
// panicked as it ends one that restarts.
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
