// Agentctl boots microVMs with agentd inside and works in them.
//
// Only a command's own output goes to standard output. Each command's help lists its
// exit statuses.
package main

import (
	"errors"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/agentd-go/agentd/internal/machines"
)

// Our own exit statuses, as in container tools.
const (
	exitTimeout       = 124 // The command took longer than --timeout, as timeout(1).
	exitOwnFailure    = 125 // agentctl itself failed.
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // Plus the signal's number.
)

// statusError ends the program with a status that is not agentctl's own failure.
type statusError struct {
	status int
	text   string // "" prints nothing.
}

func (e *statusError) Error() string { return e.text }

// memoryLimit is the collector's soft limit. Without it the heap may grow to twice the
// memory in use, and an import of an image uses up to 200 MiB: a decompressor's window
// and the list of files. GOMEMLIMIT overrides it.
const memoryLimit = 192 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	cmd, err := newRoot().ExecuteC()
	code := status(withStatus(cmd, err), wantsJSON(cmd))
	os.Exit(code)
}

// A failure is the last object that a failed command with --json prints.
type failure struct {
	Error struct {
		Message string `json:"message"`
		Status  int    `json:"status"`
	} `json:"error"`
}

// status prints an error and returns the program's exit status.
func status(err error, asJSON bool) int {
	if err == nil {
		return 0
	}
	var s *statusError
	if refused, ok := errors.AsType[*machines.CommandError](err); ok {
		s = &statusError{refused.Status, err.Error()}
	} else if !errors.As(err, &s) {
		s = &statusError{exitOwnFailure, err.Error()}
	}
	if asJSON && s.text != "" {
		var f failure
		f.Error.Message, f.Error.Status = s.text, s.status
		if writeJSON(os.Stdout, f) == nil {
			return s.status
		}
	}
	if s.text != "" {
		say(s.text)
	}
	return s.status
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "agentctl",
		Short:         "Run commands in microVMs of their own",
		Version:       thisVersion().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newStats(), newWhy(), newDebug(), newForward(), newTestExec(),
		newRun(), newCreate(), newStart(), newStop(), newKill(), newRemove(), newWait(), newSupervise(),
		newRestart(), newRename(), newPort(), newPorts(), newAttach(),
		newExec(), newShell(), newPs(), newInspect(), newLogs(),
		newCp(), newLs(), newCat(), newPut(), newTar(), newSync(), newWatch(),
		newBootTimes(), newKernel(), newImage(), newPull(),
		newTop(), atTop(newImageList(), "images"), atTop(newImageRemove(), "rmi"), atTop(newImageTag(), "tag"), atTop(newImageSave(), "save"), newLoad(),
	)
	root.AddCommand(newVolume(), newDisk(), newSystem(), newVersion(), newSnapshot(), newRestore(), newFork(), newPause(), newResume())
	root.AddCommand(extras()...)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(refusedFlag)
	root.SetHelpCommand(newHelp())
	root.InitDefaultCompletionCmd() // Otherwise cobra would add it after strict.
	strict(root)
	return root
}

// exitHelp is the part of every command's help about its exit statuses.
func exitHelp(lines string) string { return "\nEXIT STATUS\n" + lines }
