package vmm

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// consoleLines is the number of console lines in an error: about a screen, enough for a
// kernel's panic and its call trace. The rest is in [VM.Console].
const consoleLines = 24

// An ExitError says that a machine did not start or did not end in order.
type ExitError struct {
	Err     error  // why: *exec.ExitError, QMPError, a deadline, …
	Output  string // the last output of QEMU and virtiofsd
	Console string // the kept end of the guest's console
	Command string // shell lines that repeat the machine by hand
}

// Error returns several lines: the cause, QEMU's output, the end of the console, and
// the command. For a locked disk it returns one line.
func (e *ExitError) Error() string {
	if held, ok := errors.AsType[*HeldError](e.Err); ok {
		return held.Error()
	}
	if disk := heldDisk(e.Output); disk != "" {
		return (&HeldError{disk}).Error()
	}
	var b strings.Builder
	b.WriteString("qemu: " + e.Err.Error())
	section(&b, "output", e.Output)
	section(&b, "end of the console", lastLines(e.Console, consoleLines))
	section(&b, "to repeat it by hand", e.Command)
	return b.String()
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// heldDisk finds the image that QEMU could not lock, by QEMU's message
// (block/file-posix.c); "" if there is no such message.
func heldDisk(output string) string {
	_, rest, _ := strings.Cut(output, "Is another process using the image [")
	disk, _, found := strings.Cut(rest, "]?")
	if !found {
		return ""
	}
	return disk
}

// Code returns QEMU's exit code, or -1 if it has none because a signal killed it or it
// did not end by itself.
func (e *ExitError) Code() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.Err); ok {
		return exit.ExitCode()
	}
	return -1
}

func section(b *strings.Builder, title, text string) {
	if text = strings.TrimSpace(text); text != "" {
		b.WriteString("\n" + title + ":\n  " + strings.ReplaceAll(text, "\n", "\n  "))
	}
}

// lastLines returns the last n lines of a console, which ends lines with CR LF.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "\r", "")), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// outputs joins the outputs of the programs; lines of virtiofsd begin with its name.
func outputs(qemu *process, helpers []*process) string {
	var b strings.Builder
	b.Write(qemu.output.Bytes())
	for _, h := range helpers {
		for line := range bytes.Lines(h.output.Bytes()) {
			fmt.Fprintf(&b, "%s: %s\n", h.name, bytes.TrimSpace(line))
		}
	}
	return b.String()
}
