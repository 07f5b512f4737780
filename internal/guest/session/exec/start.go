package exec

import (
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// start starts the request's command.
func (e *Session) start(req *wire.ExecRequest) (*command, error) {
	leave, err := e.runner.admit(req)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := checkNUL(req); err != nil {
		return nil, err
	}
	spec, err := e.spec(req)
	if err != nil {
		return nil, err
	}
	if req.TTY {
		return e.startTTY(req, spec)
	}
	return e.startPipes(spec)
}

// errNUL refuses a string with a NUL in it: the kernel would see only the part before.
var errNUL = errors.New("nul byte found in provided data")

func checkNUL(req *wire.ExecRequest) error {
	all := append([]string{req.Cmd, deref(req.Cwd)}, req.Args...)
	all = append(all, req.Env...)
	if slices.ContainsFunc(all, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return errNUL
	}
	return nil
}

// A userError says that the guest does not have an account. It has the text of the
// reference agents, and no error number.
type userError struct{ err error }

func (e *userError) Error() string { return "exec session error: " + e.err.Error() }

func (e *userError) Unwrap() error { return e.err }

// The stages of a change of user, as the later reference agents name them.
const (
	stageUser  = "setuid"
	stageGroup = "setgid"
)

// failed returns the message for the host.
func (e *userError) failed() *wire.ExecFailed {
	stage := stageUser
	if errors.Is(e.err, plan.ErrGroupNotFound) {
		stage = stageGroup
	}
	return &wire.ExecFailed{Kind: wire.FailureUserSetup, Message: session.Repeated(e.Error()), Stage: &stage}
}

// spec translates a request for the process table.
func (e *Session) spec(req *wire.ExecRequest) (*proc.Spec, error) {
	defaults := e.runner.Defaults
	user := deref(req.User)
	if strings.TrimSpace(user) == "" {
		user = defaults.User
	}
	who, err := e.runner.account(user)
	if err != nil {
		return nil, &userError{err}
	}
	if err := checkIDs(who, user); err != nil {
		return nil, err
	}
	dir := defaults.Cwd
	if req.Cwd != nil {
		dir = *req.Cwd
	}
	if dir == "" {
		return nil, &proc.StartError{Stage: proc.StageDirectory, Name: dir, Err: syscall.ENOENT}
	}
	group, err := settings(req.Limits)
	if err != nil {
		return nil, err
	}
	spec := &proc.Spec{
		Settings: group,
		Report:   req.ReportUsage,

		Name:   req.Cmd,
		Argv:   append([]string{req.Cmd}, req.Args...),
		Env:    plan.CommandEnv(e.Host.Generation, defaults.Env, req.Env, who.Home, req.TTY),
		Dir:    dir,
		Limits: append(slices.Clone(e.runner.Limits), limits(req.Rlimits)...),
	}
	if who.Switch {
		spec.User = &syscall.Credential{Uid: who.UID, Gid: who.GID, Groups: who.Groups}
	}
	return spec, nil
}

// checkIDs refuses the id -1, which means "no change" to some system calls and is EINVAL
// to others (setuid(2), setgid(2)).
func checkIDs(who plan.Credential, spec string) error {
	const none = ^uint32(0)
	switch {
	case who.GID == none:
		return &proc.StartError{Stage: stageGroup, Name: spec, Err: syscall.EINVAL}
	case who.UID == none:
		return &proc.StartError{Stage: stageUser, Name: spec, Err: syscall.EINVAL}
	}
	return nil
}

// limits translates limits and leaves out resources that Linux does not have.
func limits(list []wire.Rlimit) (all []proc.Limit) {
	for _, l := range list {
		if r, ok := plan.ParseResource(l.Resource); ok {
			all = append(all, proc.Limit{Resource: int(r), Soft: l.Soft, Hard: l.Hard})
		}
	}
	return all
}

// A file is open for one command: ours, or the end of a pipe that the command gets.
type file interface {
	proc.Descriptor
	Chown(uid, gid int) error
	Close() error
}

// files are closed together.
type files []io.Closer

func (f files) close() {
	for _, file := range f {
		_ = file.Close() // Pipes and terminals lose nothing.
	}
}

func (e *Session) startPipes(spec *proc.Spec) (c *command, err error) {
	var ours files
	var theirs []sys.End
	defer func() {
		for _, end := range theirs {
			_ = end.Close() // The child has its own.
		}
		if err != nil {
			ours.close()
		}
	}()
	input, end, err := sys.InputPipe()
	if err != nil {
		return nil, err
	}
	ours, theirs = append(ours, input), append(theirs, end)
	var read [2]*os.File
	for i := range read {
		if read[i], end, err = sys.OutputPipe(); err != nil {
			return nil, err
		}
		ours, theirs = append(ours, read[i]), append(theirs, end)
	}
	for i, end := range theirs {
		give(end, spec.User)
		spec.Stdio[i] = end
	}
	outputs, err := outputs(read[:], wire.TypeExecStdout, wire.TypeExecStderr)
	if err != nil {
		return nil, err
	}
	child, err := e.runner.Procs.Start(spec)
	if err != nil {
		return nil, err
	}
	return &command{child: child, input: input, outputs: outputs}, nil
}

func (e *Session) startTTY(req *wire.ExecRequest, spec *proc.Spec) (*command, error) {
	master, slave, err := sys.OpenPTY(req.Rows, req.Cols)
	if err != nil {
		return nil, &ptyError{err}
	}
	defer func() { _ = slave.Close() }()
	give(slave, spec.User)
	spec.TTY = true
	spec.Stdio = [3]proc.Descriptor{slave, slave, slave}
	outputs, err := outputs([]*os.File{master}, wire.TypeExecStdout)
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	child, err := e.runner.Procs.Start(spec)
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	return &command{child: child, master: master, input: master, outputs: outputs}, nil
}

// give makes a command's user the owner of a pipe or a terminal, so that the command
// can open it by name (/dev/stdout, /dev/tty), as after a login. The command can run
// without that, so errors are ignored.
func give(file file, user *syscall.Credential) {
	if user != nil {
		_ = file.Chown(int(user.Uid), -1)
	}
}

// outputs pairs the files that the agent reads with the types of their messages.
func outputs(ours []*os.File, kinds ...wire.Type) (all []output, err error) {
	for i, file := range ours {
		from, err := sys.NewReader(file)
		if err != nil {
			return nil, err
		}
		all = append(all, output{file, from, kinds[i]})
	}
	return all, nil
}

// A ptyError says that no terminal could be opened.
type ptyError struct{ err error }

func (e *ptyError) Error() string { return e.err.Error() }

func (e *ptyError) Unwrap() error { return e.err }

// stageSpawn is the reference agents' name for the whole start.
const stageSpawn = "Command::spawn"

// failed returns the message that says why a command was not started.
func failed(req *wire.ExecRequest, err error) *wire.ExecFailed {
	if refused, ok := errors.AsType[*userError](err); ok {
		return refused.failed()
	}
	kind, text, stage := wire.FailureOther, err.Error(), stageSpawn
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		kind, text = session.KindOf(errno), session.Describe(errno)
	}
	if start, ok := errors.AsType[*proc.StartError](err); ok && start.Stage != proc.StageExec {
		kind, stage = ofStage(start, kind)
		switch start.Stage { //nolint:exhaustive // The others have no name that the host knows.
		case proc.StageDirectory:
			text += ": working directory " + quote(session.Repeated(start.Name))
		case proc.StageGroup:
			text += ": limit " + quote(session.Repeated(start.Name))
		}
	}
	if _, ok := errors.AsType[*ptyError](err); ok {
		kind, stage = wire.FailurePTYSetup, "open pty"
	}
	m := &wire.ExecFailed{Kind: kind, Message: "spawn " + quote(session.Repeated(req.Cmd)) + ": " + text, Stage: &stage}
	m.Errno, m.ErrnoName = errnoFields(err, execName)
	return m
}

// ofStage returns the failure kind and the protocol's stage of a start that failed before
// its program was executed.
func ofStage(failed *proc.StartError, kind wire.FailureKind) (wire.FailureKind, string) {
	stage := string(failed.Stage)
	switch failed.Stage { //nolint:exhaustive // Only stages before the program is executed.
	case proc.StageDirectory:
		kind = wire.FailureBadCwd
	case proc.StageLimits:
		kind = wire.FailureResourceLimit
		if number, err := strconv.Atoi(failed.Name); err == nil {
			stage += "(RLIMIT_" + strings.ToUpper(plan.Resource(number).String()) + ")"
		}
	case proc.StageGroup:
		kind = wire.FailureResourceLimit
	case stageUser, stageGroup:
		kind = wire.FailureUserSetup
	}
	return kind, stage
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
