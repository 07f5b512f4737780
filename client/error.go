package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/wire"
)

var (
	// ErrClosed is returned by calls after, and because of, Close.
	ErrClosed = errors.New("client closed")

	// ErrNoID says that every id of the client's range is in use.
	ErrNoID = errors.New("no free correlation id")

	// ErrStalled says that the link has not taken earlier frames yet.
	ErrStalled = errors.New("agent link is stalled")

	// ErrRelayed says that only the relay between the client and the agent may do this.
	ErrRelayed = errors.New("left to the relay")

	// ErrWaitDelay is the one of package os/exec: a command, or the copying of
	// its input and output, did not end in time.
	ErrWaitDelay = exec.ErrWaitDelay

	// errUnexpected says that a message is out of place in its session.
	errUnexpected = errors.New("message out of place")
)

// A LinkError says why the link to the agent ended. Err is io.EOF when the other
// side closed it, io.ErrUnexpectedEOF when it did so inside a frame, and a
// [*frame.LengthError] when it sent a frame that nobody may send.
//
// The end of the link is not the end of a file, an output or a connection that it
// carried: a LinkError is neither io.EOF nor io.ErrUnexpectedEOF to [errors.Is],
// which readers take for a regular end.
type LinkError struct {
	Err error
}

// Error returns a line for people.
func (e *LinkError) Error() string { return "agent link ended: " + e.Err.Error() }

// Unwrap returns the cause; nil for the two that are the end of a reader.
func (e *LinkError) Unwrap() error { return notEOF(e.Err) }

// notEOF is err, or nil for what means the end of a reader.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// A causeError is the cause of a context's end that a reader would take for EOF.
type causeError struct{ cause error }

func (e *causeError) Error() string { return "canceled: " + e.cause.Error() }

// Is reports whether target is [context.Canceled].
func (*causeError) Is(target error) bool { return target == context.Canceled }

// causeOf is [context.Cause]; nil while ctx is alive. A cause of io.EOF does not look like
// the end of a file.
func causeOf(ctx context.Context) error {
	err := context.Cause(ctx)
	if err != nil && notEOF(err) == nil {
		return &causeError{err}
	}
	return err
}

// A GenerationError says that the agent is too old for a call. Nothing was sent. It is
// [errors.ErrUnsupported].
type GenerationError struct {
	Feature string // The call, in words.
	Message string // The protocol's name of the message, such as "core.ping".
	Needs   int    // The generation from which on agents have the call.
	Have    int    // What the agent and this client have in common.
}

// Error returns a line for people.
func (e *GenerationError) Error() string {
	return fmt.Sprintf("%s: needs protocol generation %d (%s), have %d", e.Feature, e.Needs, e.Message, e.Have)
}

// Is reports whether target is [errors.ErrUnsupported].
func (*GenerationError) Is(target error) bool { return target == errors.ErrUnsupported }

// feature names what a message is for.
func feature(t wire.Type) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(string(t), "core."), ".")
	switch kind {
	case "exec":
		return "commands"
	case "fs":
		return "files"
	case "tcp":
		return "TCP connections"
	case "root_disk":
		return "growth of the root disk"
	case "workload":
		return "freezing"
	default:
		return kind
	}
}

// A FrameError says that the agent broke the protocol in a call. It ends that call; the
// link goes on.
type FrameError struct {
	Type string // The protocol's name of the message; "" if it could not be read.
	Err  error
}

// Error returns a line for people.
func (e *FrameError) Error() string {
	if e.Type == "" {
		return "bad frame from agent: " + e.Err.Error()
	}
	return "bad " + e.Type + " from agent: " + e.Err.Error()
}

// Unwrap returns the cause. It returns nil if the cause is the end of a reader, as for a
// truncated payload.
func (e *FrameError) Unwrap() error { return notEOF(e.Err) }

// A ProtocolError is the agent's refusal of a message that the client sent.
type ProtocolError struct {
	Kind          string // As the protocol names it, such as "invalid_flags".
	Message       string // In the agent's words.
	OffendingType string // The protocol's name of that message; "" if the agent did not say.

	// Disposition is what a refused freeze or thaw leaves behind, with the protocol's
	// names: "unavailable" if nothing was stopped, "recovery_required" if a thaw may be
	// needed; "" for other messages. [Client.Freeze] thaws by itself.
	Disposition string
}

// KindUnavailable is the Kind of a [ProtocolError] that says that the guest cannot do what
// was asked, and why.
const KindUnavailable = string(wire.ErrorUnavailable)

// Error returns a line for people.
func (e *ProtocolError) Error() string {
	if e.OffendingType == "" {
		return fmt.Sprintf("agent: %s: %s", e.Kind, e.Message)
	}
	return fmt.Sprintf("agent refused %s: %s: %s", e.OffendingType, e.Kind, e.Message)
}

// An ExitError says that a command ended with another code than 0, or by a signal.
type ExitError struct {
	// Signaled says that a signal ended the command.
	Signaled bool

	// Signal is the number of that signal on Linux. It is 0 if the agent does not report
	// it; only this project's agent does.
	Signal syscall.Signal

	// Stderr is the beginning and the end of the command's stderr, if
	// [Cmd.Output] ran it and nothing else collected that.
	Stderr []byte

	// Usage is what the command took, as [Cmd.Usage] has it; nil if that was not asked for.
	Usage *Usage

	code int
}

// ExitCode returns the code, or -1 if a signal ended the command.
func (e *ExitError) ExitCode() int { return e.code }

// Error returns a line for people.
func (e *ExitError) Error() string {
	text := "exit status " + strconv.Itoa(e.code)
	switch {
	case e.Signal != 0:
		text = "killed by signal " + strconv.Itoa(int(e.Signal))
	case e.Signaled:
		text = "killed by a signal"
	}
	if killed := e.Usage.killed(); killed != "" {
		text += "; " + killed
	}
	return text
}

// signaled is the exit code of a command that a signal ended.
const signaled = -1

func newExitError(m *wire.ExecExited) *ExitError {
	e := &ExitError{Signaled: m.Code == signaled, code: int(m.Code), Usage: newUsage(m.Usage)}
	if e.Signaled && m.Signal != nil {
		e.Signal = syscall.Signal(*m.Signal)
	}
	return e
}

// A FailureKind says why a command could not be started. Later agents may have more.
type FailureKind string

// The kinds of failure, with the protocol's names.
const (
	FailureNotFound         FailureKind = "not_found"
	FailurePermissionDenied FailureKind = "permission_denied"
	FailureNotExecutable    FailureKind = "not_executable" // The kernel knows no such format.
	FailureBadCwd           FailureKind = "bad_cwd"        // The working directory.
	FailureBadArgs          FailureKind = "bad_args"
	FailureResourceLimit    FailureKind = "resource_limit"
	FailureUserSetup        FailureKind = "user_setup_failed" // The user is not there, or cannot be taken on.
	FailurePTYSetup         FailureKind = "pty_setup_failed"
	FailureOutOfMemory      FailureKind = "out_of_memory"
	FailureOther            FailureKind = "other"
)

// A StartError says why the guest did not start a command.
//
// It is [fs.ErrNotExist] for [FailureNotFound], which agents also report for a
// working directory that does not exist; if Path has no slash, so that PATH was
// searched, it is [exec.ErrNotFound] as well. It is [fs.ErrPermission] for
// [FailurePermissionDenied].
type StartError struct {
	Path    string
	Kind    FailureKind
	Errno   syscall.Errno // Linux's number; 0 if no system call failed.
	Stage   string        // The step that failed; "" if the agent did not say.
	Message string        // In the agent's words, with the path.
}

// Error returns a line for people.
func (e *StartError) Error() string { return "start command: " + e.Message }

// Is reports whether the error is one of those named above.
func (e *StartError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Kind == FailureNotFound
	case exec.ErrNotFound:
		return e.Kind == FailureNotFound && !strings.Contains(e.Path, "/")
	case fs.ErrPermission:
		return e.Kind == FailurePermissionDenied
	default:
		return false
	}
}

// Unwrap returns Errno, or nil if it is 0.
func (e *StartError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func newStartError(path string, m *wire.ExecFailed) *StartError {
	e := &StartError{Path: path, Kind: FailureKind(m.Kind), Message: m.Message}
	if m.Errno != nil {
		e.Errno = syscall.Errno(*m.Errno)
	}
	if m.Stage != nil {
		e.Stage = *m.Stage
	}
	return e
}

// A StdinError says that the guest could not give a command its input.
type StdinError struct {
	Errno   syscall.Errno // Linux's number; 0 if unknown.
	Message string
}

// Error returns a line for people.
func (e *StdinError) Error() string { return "write command input: " + e.Message }

// Unwrap returns Errno, or nil if it is 0.
func (e *StdinError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func newStdinError(m *wire.ExecStdinError) *StdinError {
	e := &StdinError{Message: m.Message}
	if m.Errno != nil {
		e.Errno = syscall.Errno(*m.Errno)
	}
	return e
}
