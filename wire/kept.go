package wire

// FullPolicy says what happens when the kept output of a command has no room.
type FullPolicy string

// The policies.
const (
	FullDrop FullPolicy = "drop" // The oldest bytes go, and readers are told of the gap.
	FullWait FullPolicy = "wait" // The command waits until the client that may write has consumed bytes.
)

// The bounds of what a request for a kept command may ask for.
const (
	MaxKeptName   = 64
	MaxKeptMemory = 4 << 20 // For each stream, in bytes.
	MaxKeptDisk   = 1 << 30 // For each stream, in bytes.
	MaxKeptAge    = 30 * 24 * 60 * 60
)

// Keep is the part of an ExecRequest that asks for a kept command: one that goes on
// without its client. Zero values stand for the agent's defaults.
type Keep struct {
	Name    string  // "" lets the agent choose one.
	Memory  uint32  // Bytes of each stream that are kept in memory.
	Disk    *uint64 // Bytes of each stream that are kept on disk, older than those in memory; nil is the default.
	Full    FullPolicy
	AgeSecs uint32 // How long the end is kept.
	NoInput bool   // The input is empty. Else it stays open until a client ends it.
}

func (k *Keep) fields() []field {
	return []field{
		omitted("name", text(&k.Name)),
		defaulted("memory", num(&k.Memory)),
		omitted("disk", optionalNumber(&k.Disk)),
		omitted("full", oneOf(&k.Full, FullDrop, FullWait)),
		defaulted("age_secs", num(&k.AgeSecs)),
		omitted("no_input", truth(&k.NoInput)),
	}
}

// KeptStart is the part of an ExecStarted that says where the streams of a kept command
// begin for this client.
type KeptStart struct {
	Name   string
	Stdout uint64 // The offset of the first byte that follows.
	Stderr uint64
	Stdin  uint64 // How many bytes of input the agent has taken, of all clients.
	TTY    bool
}

func (k *KeptStart) fields() []field {
	return []field{
		required("name", text(&k.Name)),
		required("stdout", num(&k.Stdout)),
		required("stderr", num(&k.Stderr)),
		required("stdin", num(&k.Stdin)),
		required("tty", truth(&k.TTY)),
	}
}

// KeptStreams is a set of the outputs of a kept command.
type KeptStreams uint8

// The outputs.
const (
	KeptStdout KeptStreams = 1 << iota
	KeptStderr
	KeptBoth = KeptStdout | KeptStderr
)

// KeptAttach makes its id a session of a kept command. The answers are those of an
// ExecRequest.
type KeptAttach struct {
	Name       string
	Streams    KeptStreams // Decoding makes it KeptBoth when left out; 0 waits for the end.
	Stdout     *uint64     // The offset to begin at; nil: at the oldest byte that is kept. Beyond the newest byte: after it.
	Stderr     *uint64
	Write      bool   // Take the input: the last client to ask has it.
	Rows, Cols uint16 // The terminal's size, and a repaint; 0 leaves it.
}

func newKeptAttach() Message { return &KeptAttach{Streams: KeptBoth} }

// Type returns TypeKeptAttach.
func (*KeptAttach) Type() Type { return TypeKeptAttach }

func (m *KeptAttach) fields() []field {
	return []field{
		required("name", text(&m.Name)),
		defaulted("streams", num(&m.Streams)),
		omitted("stdout", optionalNumber(&m.Stdout)),
		omitted("stderr", optionalNumber(&m.Stderr)),
		omitted("write", truth(&m.Write)),
		defaulted("rows", num(&m.Rows)),
		defaulted("cols", num(&m.Cols)),
	}
}

// KeptConsumed says up to which offsets the client has the streams for good.
type KeptConsumed struct {
	Stdout, Stderr uint64
}

// Type returns TypeKeptConsumed.
func (*KeptConsumed) Type() Type { return TypeKeptConsumed }

func (m *KeptConsumed) fields() []field {
	return []field{
		required("stdout", num(&m.Stdout)),
		required("stderr", num(&m.Stderr)),
	}
}

// KeptGap says that a stream goes on at a later offset: the bytes before it are gone.
type KeptGap struct {
	Stream KeptStreams
	Offset uint64
}

// Type returns TypeKeptGap.
func (*KeptGap) Type() Type { return TypeKeptGap }

func (m *KeptGap) fields() []field {
	return []field{
		required("stream", between(&m.Stream, KeptStdout, KeptStderr)),
		required("offset", num(&m.Offset)),
	}
}

// KeptInput says how many bytes of input the agent has taken.
type KeptInput struct {
	Offset uint64
}

// Type returns TypeKeptInput.
func (*KeptInput) Type() Type { return TypeKeptInput }

func (m *KeptInput) fields() []field {
	return []field{required("offset", num(&m.Offset))}
}

// KeptDetach ends the session of a client; the command goes on.
type KeptDetach struct{}

// Type returns TypeKeptDetach.
func (*KeptDetach) Type() Type { return TypeKeptDetach }

func (*KeptDetach) fields() []field { return nil }

// KeptDetached is the last message of a session that was ended by KeptDetach.
type KeptDetached struct{}

// Type returns TypeKeptDetached.
func (*KeptDetached) Type() Type { return TypeKeptDetached }

func (*KeptDetached) fields() []field { return nil }

// KeptList asks for the kept commands.
type KeptList struct{}

// Type returns TypeKeptList.
func (*KeptList) Type() Type { return TypeKeptList }

func (*KeptList) fields() []field { return nil }

// KeptListed answers KeptList, by the time of the start.
type KeptListed struct {
	Commands []KeptCommand
}

// Type returns TypeKeptListed.
func (*KeptListed) Type() Type { return TypeKeptListed }

func (m *KeptListed) fields() []field {
	return []field{required("commands", objects(&m.Commands))}
}

// KeptCommand describes a kept command.
type KeptCommand struct {
	Name      string
	Args      []string // With the command first; the end is left out if it is long.
	PID       uint32
	TTY       bool
	StartedNS uint64  // The guest's wall clock.
	EndedNS   uint64  // 0 while the command runs.
	Code      *int32  // Of ExecExited; nil while the command runs.
	Signal    *int32  // So too.
	Stdout    KeptEnd // What is kept of it.
	Stderr    KeptEnd
	Stdin     uint64 // Bytes taken.
	Clients   uint32 // That are attached.
	Writer    bool   // One of them has the input.
}

func (k *KeptCommand) fields() []field {
	return []field{
		required("name", text(&k.Name)),
		required("args", texts(&k.Args)),
		required("pid", num(&k.PID)),
		required("tty", truth(&k.TTY)),
		required("started_ns", num(&k.StartedNS)),
		required("ended_ns", num(&k.EndedNS)),
		omitted("code", optionalNumber(&k.Code)),
		omitted("signal", optionalNumber(&k.Signal)),
		required("stdout", object(&k.Stdout)),
		required("stderr", object(&k.Stderr)),
		required("stdin", num(&k.Stdin)),
		required("clients", num(&k.Clients)),
		required("writer", truth(&k.Writer)),
	}
}

// KeptEnd is the range of a stream that is kept.
type KeptEnd struct {
	Start, End uint64
}

func (k *KeptEnd) fields() []field {
	return []field{
		required("start", num(&k.Start)),
		required("end", num(&k.End)),
	}
}

// KeptRelease forgets a kept command that has ended.
type KeptRelease struct {
	Name string
}

// Type returns TypeKeptRelease.
func (*KeptRelease) Type() Type { return TypeKeptRelease }

func (m *KeptRelease) fields() []field {
	return []field{required("name", text(&m.Name))}
}

// KeptRefusal says why a kept command was not released.
type KeptRefusal string

// The refusals.
const (
	KeptUnknown KeptRefusal = "unknown" // There is no such command.
	KeptRunning KeptRefusal = "running"
)

// KeptReleased answers KeptRelease.
type KeptReleased struct {
	Refusal KeptRefusal // "" if the command is forgotten.
}

// Type returns TypeKeptReleased.
func (*KeptReleased) Type() Type { return TypeKeptReleased }

func (m *KeptReleased) fields() []field {
	return []field{omitted("refusal", text(&m.Refusal))}
}
