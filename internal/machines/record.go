package machines

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// The files of a machine; see the package comment.
const (
	recordName  = "record.json"
	stateName   = "state.json"
	lifeName    = "life"
	socketName  = "socket"
	controlName = "ctl" // Shorter than "socket", so its path fits wherever the socket's does.
	consoleName = "console.log"
	logName     = "agentctl.log"
	outputName  = "output.log"
	filesName   = "files"
	scriptName  = "repeat.sh"
	grownName   = "grown" // Is there once the disk of the root was to grow.
	healthName  = "health.json"
)

// recordFormat is increased when an older agentctl could misread a record.
const recordFormat = 1

// A Record is the configuration of a machine. Its JSON names are those of its file, which
// holds a storedRecord, and of agentctl inspect.
type Record struct {
	Format  int       `json:"format"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`

	// Passing marks a machine that is removed when it ends, such as one of run.
	Passing bool `json:"passing,omitempty"`

	// Command is the machine's command: the machine ends with it. Without a command the
	// machine runs until it is told to end.
	Command []string          `json:"command,omitempty"`
	TTY     bool              `json:"tty,omitempty"`        // Command has a terminal; it is kept, see MainCommand.
	Input   bool              `json:"input,omitempty"`      // Command has an open input; it is kept, see MainCommand.
	Timeout time.Duration     `json:"timeout_ns,omitempty"` // Longest time from start to end; 0 means no bound.
	Labels  map[string]string `json:"labels,omitempty"`
	Ports   []Port            `json:"ports,omitempty"`
	Socket  string            `json:"socket,omitempty"`     // Replaces the socket in its directory.
	PIDs    uint64            `json:"pids_limit,omitempty"` // Most processes and threads of Command; 0 means no bound.

	// Survive lets the machine outlive its supervisor, if that is killed: see Adopt.
	Survive bool `json:"survive,omitempty"`

	Restart     RestartPolicy  `json:"restart,omitempty"`
	StopSignal  string         `json:"stop_signal,omitempty"`     // For its command; "" means TERM.
	StopTimeout *time.Duration `json:"stop_timeout_ns,omitempty"` // For its command; nil means DefaultGrace, less than 0 no bound.

	// Health is a check that runs in the machine at intervals; nil means none.
	Health *sandbox.Healthcheck `json:"healthcheck,omitempty"`

	Config sandbox.Config `json:"config"`
}

// MainCommand is the name under which the agent keeps a machine's command that has a terminal or
// an input, for clients that attach to it, or that outlives its supervisor.
const MainCommand = "main"

// Kept reports whether the agent keeps the machine's command, so that clients can attach to it.
func (r *Record) Kept() bool { return len(r.Command) > 0 && (r.TTY || r.Input || r.Survive) }

// A Phase is a phase of a machine's life.
type Phase string

// The phases; see the package comment.
const (
	Created  Phase = "created"
	Starting Phase = "starting"
	Running  Phase = "running"
	Stopping Phase = "stopping"
	// Paused is a machine whose memory is on the disk; it needs no supervisor.
	Paused Phase = "paused"
	// Restarting is the pause between two lives; see RestartPolicy.
	Restarting Phase = "restarting"
	Stopped    Phase = "stopped"
	Failed     Phase = "failed"
	Dead       Phase = "dead" // Never written; concluded from state and lock.
)

// over reports whether a machine in that phase needs no supervisor.
func (p Phase) over() bool { return p == Created || p == Stopped || p == Failed || p == Dead }

// A State is a supervisor's description of its machine.
type State struct {
	Phase   Phase     `json:"phase"`
	PID     int       `json:"pid,omitempty"` // The supervisor's.
	Started time.Time `json:"started,omitzero"`
	Ready   time.Time `json:"ready,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Error   string    `json:"error,omitempty"`  // Why it failed.
	Reason  string    `json:"reason,omitempty"` // Why it ended, if it did not fail.
	Exit    *int      `json:"exit,omitempty"`   // The status of its command.
	Note    string    `json:"note,omitempty"`   // Describes the VMM that runs it.
	Ports   []Port    `json:"ports,omitempty"`  // With the host's actual ports.

	OOMKilled bool `json:"oom_killed,omitempty"` // Its kernel has killed a process for lack of memory.
	Restarts  int  `json:"restarts,omitempty"`   // Restarts by its policy since it was started.
}

// A Status is the current status of a machine.
type Status struct {
	State
	Alive  bool    `json:"alive"`            // A supervisor holds it.
	Health *Health `json:"health,omitempty"` // Results of the health checks in its last life; nil without any.
}

// writeJSON replaces a file as a whole or not at all.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	early := path + ".new" // Each file has one writer.
	if err := os.WriteFile(early, append(b, '\n'), 0o600); err != nil {
		return errors.Join(err, os.RemoveAll(early)) // Frees the space on a full disk.
	}
	return os.Rename(early, path)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// A Machine is a machine of the store.
type Machine struct {
	store  *Store
	dir    string
	record Record
}

// Name returns the machine's name.
func (m *Machine) Name() string { return m.record.Name }

// Record returns the machine's configuration.
func (m *Machine) Record() Record { return m.record }

// Dir returns the machine's directory.
func (m *Machine) Dir() string { return m.dir }

// Socket is the path at which a running machine serves clients.
func (m *Machine) Socket() string { return cmp.Or(m.record.Socket, m.file(socketName)) }

// Output is the path of the command's output.
func (m *Machine) Output() string { return m.file(outputName) }

// Console is the path of the guest's console output.
func (m *Machine) Console() string { return m.file(consoleName) }

// Script is the path of a shell script that repeats the machine's last life by hand.
func (m *Machine) Script() string { return m.file(scriptName) }

// Log is the path of the supervisor's messages.
func (m *Machine) Log() string { return m.file(logName) }

func (m *Machine) file(name string) string { return filepath.Join(m.dir, name) }

// statusTries is how often Status tries again if the supervisor changed meanwhile. A
// life takes longer than a try, so one more is normally enough.
const statusTries = 10

// alive reports whether the machine has a supervisor.
func (m *Machine) alive() (bool, error) { return held(m.file(lifeName)) }

// Status returns the current status of the machine.
func (m *Machine) Status() (s Status, err error) {
	before, err := m.alive()
	for range statusTries {
		if err != nil {
			return s, err
		}
		if s.State, err = m.state(); err != nil {
			return s, err
		}
		s.Alive, err = m.alive()
		if s.Alive == before {
			break
		}
		before = s.Alive
	}
	if s.Phase = concluded(s); s.Phase == Dead && m.isPaused() {
		s.Phase = Paused
	}
	if s.Phase == Dead {
		s.Error = errorDead
	}
	if err == nil {
		s.Health, err = m.readHealth()
	}
	return s, err
}

// concluded derives the phase from the state and from whether a supervisor holds the
// life.
func concluded(s Status) Phase {
	switch {
	case s.Alive && s.Phase == Created:
		return Starting // The supervisor has not written its state yet.
	case s.Alive && s.Phase.over():
		return Stopping // The supervisor holds only the lock any more.
	case !s.Alive && !s.Phase.over():
		return Dead
	}
	return s.Phase
}

func (m *Machine) state() (s State, err error) {
	if last, ok := lastWord(m.file(lifeName)); ok {
		return last, nil
	}
	err = readJSON(m.file(stateName), &s)
	if errors.Is(err, os.ErrNotExist) {
		if _, paused := os.Lstat(m.file(pausedName)); paused == nil {
			return State{Phase: Paused}, nil // Restored from a snapshot, and not resumed yet.
		}
		return State{Phase: Created}, nil
	}
	return s, err
}
