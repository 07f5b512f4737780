package wire

// ExecRequest starts a command. The answer is ExecFailed, or ExecStarted followed
// by output and ExecExited.
type ExecRequest struct {
	Cmd        string // a path, or a name to search in PATH; also the command's argv[0]
	Args       []string
	Env        []string // KEY=VALUE
	Cwd        *string  // nil: the guest's default
	User       *string  // USER[:GROUP]; nil: the guest's default
	TTY        bool
	Rows, Cols uint16 // of the terminal; decoding makes them 24 and 80 when left out
	Rlimits    []Rlimit

	// ReportSignal asks for ExecExited.Signal. It is an extension of ours. Agents that
	// do not know it ignore it, and agents that know it send nothing new without it.
	ReportSignal bool

	// Limits and ReportUsage are of the extension "limits". ReportUsage asks for
	// ExecExited.Usage.
	Limits      *GroupLimits
	ReportUsage bool

	// Keep, of the extension "kept", lets the command go on without its client.
	Keep *Keep
}

// The size of a terminal if the request has none: a VT100's.
const (
	defaultRows = 24
	defaultCols = 80
)

func newExecRequest() Message {
	return &ExecRequest{Rows: defaultRows, Cols: defaultCols}
}

// Type returns TypeExecRequest.
func (*ExecRequest) Type() Type { return TypeExecRequest }

func (m *ExecRequest) fields() []field {
	return []field{
		required("cmd", text(&m.Cmd)),
		defaulted("args", texts(&m.Args)),
		defaulted("env", texts(&m.Env)),
		defaulted("cwd", optionalText(&m.Cwd)),
		defaulted("user", optionalText(&m.User)),
		defaulted("tty", truth(&m.TTY)),
		defaulted("rows", num(&m.Rows)),
		defaulted("cols", num(&m.Cols)),
		defaulted("rlimits", objects(&m.Rlimits)),
		omitted("report_signal", truth(&m.ReportSignal)),
		omitted("limits", optionalObject(&m.Limits)),
		omitted("report_usage", truth(&m.ReportUsage)),
		omitted("keep", optionalObject(&m.Keep)),
	}
}

// ExecStarted says that the command runs.
type ExecStarted struct {
	PID  uint32     // in the guest
	Kept *KeptStart // of a kept command; see Keep
}

// Type returns TypeExecStarted.
func (*ExecStarted) Type() Type { return TypeExecStarted }

func (m *ExecStarted) fields() []field {
	return []field{
		required("pid", num(&m.PID)),
		omitted("kept", optionalObject(&m.Kept)),
	}
}

// ExecStdin is input for a command. Empty data ends the input.
type ExecStdin struct {
	Data []byte
}

// Type returns TypeExecStdin.
func (*ExecStdin) Type() Type { return TypeExecStdin }

func (m *ExecStdin) fields() []field {
	return []field{required(dataField, data(&m.Data))}
}

// ExecStdout is output of a command. On a terminal it has the diagnostic output too.
type ExecStdout struct {
	Data []byte
}

// Type returns TypeExecStdout.
func (*ExecStdout) Type() Type { return TypeExecStdout }

func (m *ExecStdout) fields() []field {
	return []field{required(dataField, data(&m.Data))}
}

// ExecStderr is diagnostic output of a command without a terminal.
type ExecStderr struct {
	Data []byte
}

// Type returns TypeExecStderr.
func (*ExecStderr) Type() Type { return TypeExecStderr }

func (m *ExecStderr) fields() []field {
	return []field{required(dataField, data(&m.Data))}
}

// ExecStdinError says that input could not be delivered. The command goes on.
type ExecStdinError struct {
	Errno     *int32
	ErrnoName *string
	Message   string
}

// Type returns TypeExecStdinError.
func (*ExecStdinError) Type() Type { return TypeExecStdinError }

func (m *ExecStdinError) fields() []field {
	return []field{
		defaulted("errno", optionalNumber(&m.Errno)),
		defaulted("errno_name", optionalText(&m.ErrnoName)),
		required("message", text(&m.Message)),
	}
}

// ExecExited is the end of a command.
type ExecExited struct {
	Code int32 // 0…255, or -1 if a signal killed it

	// Signal is the number of that signal, for a request that asked for it.
	Signal *int32

	// Usage is what the command took, for a request that asked for it.
	Usage *ExecUsage
}

// Type returns TypeExecExited.
func (*ExecExited) Type() Type { return TypeExecExited }

func (m *ExecExited) fields() []field {
	return []field{
		required("code", num(&m.Code)),
		omitted("signal", optionalNumber(&m.Signal)),
		omitted("usage", optionalObject(&m.Usage)),
	}
}

// FailureKind is the reason why a command could not be started. Unknown kinds decode
// too, because later agents may add some.
type FailureKind string

// The kinds of failure. Protocol section 8.8 lists the errors of each.
const (
	FailureNotFound         FailureKind = "not_found"
	FailurePermissionDenied FailureKind = "permission_denied"
	FailureNotExecutable    FailureKind = "not_executable"
	FailureBadCwd           FailureKind = "bad_cwd"
	FailureBadArgs          FailureKind = "bad_args"
	FailureResourceLimit    FailureKind = "resource_limit"
	FailureUserSetup        FailureKind = "user_setup_failed"
	FailurePTYSetup         FailureKind = "pty_setup_failed"
	FailureOutOfMemory      FailureKind = "out_of_memory"
	FailureOther            FailureKind = "other"
)

// ExecFailed says that a command was not started.
type ExecFailed struct {
	Kind      FailureKind
	Errno     *int32
	ErrnoName *string
	Message   string
	Stage     *string // the step that failed
}

// Type returns TypeExecFailed.
func (*ExecFailed) Type() Type { return TypeExecFailed }

func (m *ExecFailed) fields() []field {
	return []field{
		required("kind", text(&m.Kind)),
		defaulted("errno", optionalNumber(&m.Errno)),
		defaulted("errno_name", optionalText(&m.ErrnoName)),
		required("message", text(&m.Message)),
		defaulted("stage", optionalText(&m.Stage)),
	}
}

// ExecResize gives a command's terminal a new size.
type ExecResize struct {
	Rows, Cols uint16
}

// Type returns TypeExecResize.
func (*ExecResize) Type() Type { return TypeExecResize }

func (m *ExecResize) fields() []field {
	return []field{
		required("rows", num(&m.Rows)),
		required("cols", num(&m.Cols)),
	}
}

// OutputFlow says whether a command's output is to be sent.
type OutputFlow string

// The values of OutputFlow.
const (
	OutputHold OutputFlow = "hold" // stop reading it: the command waits on a full pipe
	OutputGo   OutputFlow = "go"   // go on
)

// ExecSignal sends a signal to a command.
type ExecSignal struct {
	Signal int32 // Linux's number; only 1…31 have an effect

	// Output asks for flow control, with a Signal of 0. It is an extension of ours;
	// agents that do not know the field do nothing then.
	Output OutputFlow

	// Tree, of the extension "limits", sends the signal to every process that descends
	// from the command, those too that have left its process group and session.
	Tree bool

	// Kept says that the signal is meant for a kept command. A relay kills the commands of
	// a client that has gone by signals without it, and these do not reach kept commands.
	Kept bool
}

// Type returns TypeExecSignal.
func (*ExecSignal) Type() Type { return TypeExecSignal }

func (m *ExecSignal) fields() []field {
	return []field{
		required("signal", num(&m.Signal)),
		omitted("output", oneOf(&m.Output, OutputHold, OutputGo)),
		omitted("tree", truth(&m.Tree)),
		omitted("kept", truth(&m.Kept)),
	}
}
