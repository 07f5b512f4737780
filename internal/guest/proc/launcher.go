package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// LauncherName is argv[0] of the copy of agentd that stands between it and a
// command with resource limits of its own. Limits belong to a process and must
// be set after the change of user, so neither the spawner nor the command can.
const LauncherName = "agentd-launcher"

// reportFD is the descriptor for the launcher's error; on success it closes unused.
const reportFD = 3

// startLauncher starts the launcher instead of the command.
func (t *Table) startLauncher(s *Spec) result {
	ours, theirs, err := sys.ReadPipe()
	if err != nil {
		return result{err: &StartError{StageExec, s.Name, err}}
	}
	defer func() { _ = theirs.Close() }() // The launcher has its own.
	argv := append([]string{LauncherName, encodeLimits(s.Limits), s.Name}, s.Argv...)
	child, err := t.fork("/proc/self/exe", argv, s, &syscall.ProcAttr{Files: []uintptr{theirs.Fd()}}) // reportFD.
	if err != nil {
		_ = ours.Close()
		return result{err: &StartError{StageExec, s.Name, err}}
	}
	return result{child: child, launcher: ours}
}

// launched waits until the launcher has become the command or said why not.
func launched(report *os.File) error {
	defer func() { _ = report.Close() }()
	const most = 8 << 10 // A path name and two words; a launcher writes once.
	b, err := io.ReadAll(io.LimitReader(report, most))
	if err != nil || len(b) == 0 {
		return err
	}
	fields := strings.SplitN(string(b), "\x00", 3)
	if len(fields) != 3 {
		return &StartError{StageExec, LauncherName, errors.New("unreadable report")}
	}
	number, err := strconv.Atoi(fields[1])
	if err != nil {
		return &StartError{StageExec, LauncherName, err}
	}
	return &StartError{Stage(fields[0]), fields[2], syscall.Errno(number)}
}

// Launch is the whole life of the launcher: it sets the limits that its arguments
// name and becomes the command. It returns the exit status only if that failed.
func Launch(args []string) int {
	syscall.CloseOnExec(reportFD)
	err := launch(args)
	var failed *StartError
	if !errors.As(err, &failed) {
		failed = &StartError{StageExec, LauncherName, syscall.EINVAL}
	}
	var errno syscall.Errno
	if !errors.As(failed.Err, &errno) {
		errno = syscall.EINVAL
	}
	report := os.NewFile(reportFD, "report")
	// An error means that the agent does not read it any more.
	_, _ = fmt.Fprintf(report, "%s\x00%d\x00%s", failed.Stage, int(errno), failed.Name)
	const notExecuted = 127 // As in a shell.
	return notExecuted
}

func launch(args []string) error {
	const limits, name, argv = 1, 2, 3
	if len(args) <= argv {
		return errors.New("the launcher is not a command of its own")
	}
	list, err := decodeLimits(args[limits])
	if err != nil {
		return err
	}
	for _, l := range list {
		if err := sys.SetLimit(l.Resource, l.Soft, l.Hard); err != nil {
			return &StartError{StageLimits, strconv.Itoa(l.Resource), err}
		}
	}
	env := os.Environ()
	return search(args[name], env, func(path string) error { return sys.Exec(path, args[argv:], env) })
}

func encodeLimits(limits []Limit) string {
	words := make([]string, len(limits))
	for i, l := range limits {
		words[i] = fmt.Sprintf("%d=%d:%d", l.Resource, l.Soft, l.Hard)
	}
	return strings.Join(words, ",")
}

func decodeLimits(s string) (limits []Limit, err error) {
	for word := range strings.SplitSeq(s, ",") {
		l, err := decodeLimit(word)
		if err != nil {
			return nil, fmt.Errorf("limit %q: %w", word, err)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

func decodeLimit(word string) (l Limit, err error) {
	resource, values, _ := strings.Cut(word, "=")
	soft, hard, _ := strings.Cut(values, ":")
	if l.Resource, err = strconv.Atoi(resource); err != nil {
		return l, err
	}
	if l.Soft, err = strconv.ParseUint(soft, 10, 64); err != nil {
		return l, err
	}
	l.Hard, err = strconv.ParseUint(hard, 10, 64)
	return l, err
}
