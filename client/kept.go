package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// ackEvery is how much of a kept command's output is received until the agent is told: a
// ring that waits for it holds four times as much at least (protocol section 8.12).
const ackEvery = 16 << 10

// A Keep asks that a command is kept: it goes on without its client, and other clients can
// attach to it. Zero values stand for the agent's defaults, which are in brackets.
type Keep struct {
	// Name is 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit. The
	// agent chooses one for "": see [Cmd.Name].
	Name string

	Memory int           // Bytes of each output that are kept in memory, 4 MiB at most (64 KiB).
	Disk   int64         // Bytes of each output that are kept on disk, 1 GiB at most (16 MiB); negative for none.
	Wait   bool          // The command waits when both are full; else the oldest bytes go.
	Age    time.Duration // How long the end is kept, 30 days at most (a day).

	Gap func(stderr bool, offset uint64) // As of [View]; for the client that starts the command.
}

func (k *Keep) request(noInput bool) (*wire.Keep, error) {
	m := &wire.Keep{Name: k.Name, Memory: uint32(k.Memory), AgeSecs: uint32(k.Age / time.Second), NoInput: noInput}
	if k.Memory < 0 || k.Memory > wire.MaxKeptMemory {
		return nil, fmt.Errorf("keep: memory %d: want 0 to %d bytes", k.Memory, wire.MaxKeptMemory)
	}
	if k.Disk > wire.MaxKeptDisk {
		return nil, fmt.Errorf("keep: disk %d: want at most %d bytes", k.Disk, wire.MaxKeptDisk)
	}
	if k.Age < 0 || k.Age > wire.MaxKeptAge*time.Second {
		return nil, fmt.Errorf("keep: age %v: want 0 to %v", k.Age, wire.MaxKeptAge*time.Second)
	}
	if k.Age > 0 {
		m.AgeSecs = max(m.AgeSecs, 1)
	}
	if k.Disk != 0 {
		m.Disk = new(uint64(max(k.Disk, 0)))
	}
	if k.Wait {
		m.Full = wire.FullWait
	}
	return m, nil
}

// FromEnd is an offset after every byte of an output.
const FromEnd = math.MaxUint64

// A View says what a client wants of a kept command. The zero value is all output that is
// kept, and all that comes.
type View struct {
	// Stdout and Stderr are the offsets to begin at, counted from the command's start; nil
	// is the oldest byte that is kept. What is gone is passed over: see [Cmd.Offsets].
	Stdout, Stderr *uint64

	NoStdout, NoStderr bool // Leave an output out.

	// Write takes the input. The client that asked last has it; the one before gets a
	// [*StdinError] of EBUSY.
	Write bool

	// Gap, if set, is called when bytes of an output are gone before they were sent: it
	// goes on at an offset. It is called before the bytes at the offset are written.
	Gap func(stderr bool, offset uint64)
}

// Attach returns a Cmd for a kept command of the guest: its Start attaches to it, and its Wait
// waits for the command's end. Stdin is sent only if the view has Write; nil leaves the input open. Of the other fields
// only Stdout, Stderr, Sink, Rows and Cols count; for a terminal these repaint it, and 0 leaves it.
func (c *Client) Attach(ctx context.Context, name string, v View) *Cmd {
	cmd := c.CommandContext(ctx, name)
	cmd.Cancel = cmd.Detach
	cmd.view = &v
	return cmd
}

// attach makes the protocol's request for a view.
func (c *Cmd) attach() *wire.KeptAttach {
	m := c.view.message(c.Path)
	m.Rows, m.Cols = c.Rows, c.Cols
	return m
}

// message makes the protocol's request for a view of a command.
func (v *View) message(name string) *wire.KeptAttach {
	m := &wire.KeptAttach{Name: name, Stdout: v.Stdout, Stderr: v.Stderr, Write: v.Write}
	if !v.NoStdout {
		m.Streams |= wire.KeptStdout
	}
	if !v.NoStderr {
		m.Streams |= wire.KeptStderr
	}
	return m
}

// ErrDetached says that the client has left a kept command, which goes on.
var ErrDetached = errors.New("detached from the command, which goes on")

// errNotKept says that a command belongs to its client.
var errNotKept = errors.New("the command is not kept")

// Detach leaves a kept command, which goes on. Wait returns [ErrDetached] after the output
// that had been sent by then.
func (c *Cmd) Detach() error {
	switch {
	case c.proc == nil:
		return errors.New("command not started")
	case c.proc.kept == nil:
		return errNotKept
	}
	return c.proc.sendAlive(new(wire.KeptDetach))
}

// Name returns the name of a kept command, "" for others and before Start.
func (c *Cmd) Name() string {
	if c.proc == nil || c.proc.kept == nil {
		return ""
	}
	return c.proc.kept.start.Name
}

// Offsets returns how far the outputs of a kept command have been received, counted from the
// command's start. After Start they are where the outputs begin.
func (c *Cmd) Offsets() (stdout, stderr uint64) {
	if c.proc == nil || c.proc.kept == nil {
		return 0, 0
	}
	return c.proc.kept.offsets()
}

// Begun returns the offsets at which the outputs of a kept command begin for this client:
// those of its [View], or higher ones if the bytes there were gone. It is 0 before Start.
func (c *Cmd) Begun() (stdout, stderr uint64) {
	if c.proc == nil || c.proc.kept == nil {
		return 0, 0
	}
	return c.proc.kept.start.Stdout, c.proc.kept.start.Stderr
}

// HasTTY reports whether a kept command has a terminal.
func (c *Cmd) HasTTY() bool {
	if c.proc == nil || c.proc.kept == nil {
		return c.TTY
	}
	return c.proc.kept.start.TTY
}

// A KeptCommand describes a kept command.
type KeptCommand struct {
	Name    string
	Args    []string // The command first; the end of long ones is left out.
	PID     int      // In the guest.
	TTY     bool
	Started time.Time // By the guest's clock.
	Ended   time.Time // Zero while the command runs.

	// Err is nil while the command runs and for code 0, else an [*ExitError].
	Err error

	Stdout, Stderr KeptRange
	Stdin          uint64 // Bytes of input that the agent has taken.
	Clients        int    // Attached ones.
	Writer         bool   // One of them has the input.
}

// Running reports whether the command runs.
func (k *KeptCommand) Running() bool { return k.Ended.IsZero() }

// A KeptRange is the part of an output that is kept, in bytes from the output's beginning: from
// Start up to before End. End is how many bytes there have been.
type KeptRange struct {
	Start, End uint64
}

// Kept lists the kept commands by the time of their start.
func (c *Client) Kept(ctx context.Context) ([]KeptCommand, error) {
	if err := c.needs(ExtensionKept, "kept commands"); err != nil {
		return nil, err
	}
	m, err := ask[*wire.KeptListed](ctx, c, new(wire.KeptList))
	if err != nil {
		return nil, err
	}
	all := make([]KeptCommand, 0, len(m.Commands))
	for i := range m.Commands {
		all = append(all, newKeptCommand(&m.Commands[i]))
	}
	return all, nil
}

func newKeptCommand(m *wire.KeptCommand) KeptCommand {
	k := KeptCommand{
		Name: m.Name, Args: m.Args, PID: int(m.PID), TTY: m.TTY, Started: moment(m.StartedNS),
		Stdout: KeptRange(m.Stdout), Stderr: KeptRange(m.Stderr), Stdin: m.Stdin, Clients: int(m.Clients), Writer: m.Writer,
	}
	if m.Code != nil {
		k.Ended = moment(m.EndedNS)
		if *m.Code != 0 {
			k.Err = newExitError(&wire.ExecExited{Code: *m.Code, Signal: m.Signal})
		}
	}
	return k
}

// moment is a time of the guest's clock, whatever the guest says.
func moment(ns uint64) time.Time { return time.Unix(0, int64(min(ns, math.MaxInt64))) }

// Release forgets a kept command that has ended: its name is free, and its output goes. The
// error is [fs.ErrNotExist] if there is no such command, and EBUSY while it runs.
func (c *Client) Release(ctx context.Context, name string) error {
	if err := c.needs(ExtensionKept, "kept commands"); err != nil {
		return err
	}
	m, err := ask[*wire.KeptReleased](ctx, c, &wire.KeptRelease{Name: name})
	switch {
	case err != nil:
		return err
	case m.Refusal == "":
		return nil
	case m.Refusal == wire.KeptUnknown:
		return fmt.Errorf("release %s: no such command: %w", name, fs.ErrNotExist)
	default:
		return fmt.Errorf("release %s: the command runs: %w", name, ebusy)
	}
}
