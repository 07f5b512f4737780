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
	controlName = "ctl" // Shorter than socket: its path has to be, too.
	consoleName = "console.log"
	logName     = "agentctl.log"
	outputName  = "output.log"
	filesName   = "files"
	scriptName  = "repeat.sh"
	healthName  = "health.json"
)

// recordFormat is raised when an older agentctl could misread a record.
const recordFormat = 1

// A Record is what was asked for.
type Record struct {
	Format  int       `json:"format"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`

	// Passing is a machine that is removed when it ends, as run makes it.
	Passing bool `json:"passing,omitempty"`

	// Command is what the machine is for: it ends with it. Without one it stays
	// until it is told to end.
	Command []string          `json:"command,omitempty"`
	Timeout time.Duration     `json:"timeout_ns,omitempty"` // From its start to its end; 0 is none.
	Labels  map[string]string `json:"labels,omitempty"`
	Ports   []Port            `json:"ports,omitempty"`
	Socket  string            `json:"socket,omitempty"` // In place of the one in its directory.

	Restart     RestartPolicy  `json:"restart,omitempty"`
	StopSignal  string         `json:"stop_signal,omitempty"`     // For its command; "" is TERM.
	StopTimeout *time.Duration `json:"stop_timeout_ns,omitempty"` // For its command; nil is DefaultGrace, less than 0 for ever.

	// Health is run in the machine again and again while it runs; nil for no check.
	Health *sandbox.Healthcheck `json:"healthcheck,omitempty"`

	Config sandbox.Config `json:"config"`
}

// A Phase is how far a machine's life has come.
type Phase string

// The phases; see the package comment.
const (
	Created  Phase = "created"
	Starting Phase = "starting"
	Running  Phase = "running"
	Stopping Phase = "stopping"
	// Restarting is between two lives; see RestartPolicy.
	Restarting Phase = "restarting"
	Stopped    Phase = "stopped"
	Failed     Phase = "failed"
	Dead       Phase = "dead" // Never written: concluded.
)

// over reports a phase after which nobody works on the machine.
func (p Phase) over() bool { return p == Created || p == Stopped || p == Failed || p == Dead }

// A State is what a supervisor says of its machine.
type State struct {
	Phase   Phase     `json:"phase"`
	PID     int       `json:"pid,omitempty"` // The supervisor's.
	Started time.Time `json:"started,omitzero"`
	Ready   time.Time `json:"ready,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Error   string    `json:"error,omitempty"`  // Why it failed.
	Reason  string    `json:"reason,omitempty"` // Why it ended, if it did not fail.
	Exit    *int      `json:"exit,omitempty"`   // The status of its command.
	Note    string    `json:"note,omitempty"`   // What executes it.
	Ports   []Port    `json:"ports,omitempty"`  // With the host's side as it is.

	OOMKilled bool `json:"oom_killed,omitempty"` // Its kernel has killed something for want of memory.
	Restarts  int  `json:"restarts,omitempty"`   // By its policy, since it was started.
}

// A Status is what is true of a machine now.
type Status struct {
	State
	Alive  bool    `json:"alive"`            // It has a supervisor.
	Health *Health `json:"health,omitempty"` // What checks have said in its last life; nil without any.
}

// writeJSON writes a file whole or not at all.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	early := path + ".new" // There is one writer of each file.
	if err := os.WriteFile(early, append(b, '\n'), 0o600); err != nil {
		return errors.Join(err, os.RemoveAll(early)) // On a full disk what there is of it is in the way.
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

// A Machine is one of the store.
type Machine struct {
	store  *Store
	dir    string
	record Record
}

// Name returns the machine's name.
func (m *Machine) Name() string { return m.record.Name }

// Record returns what was asked for.
func (m *Machine) Record() Record { return m.record }

// Dir returns the machine's directory.
func (m *Machine) Dir() string { return m.dir }

// Socket is where a running machine serves clients.
func (m *Machine) Socket() string { return cmp.Or(m.record.Socket, m.file(socketName)) }

// Output is the file with what the machine's command has printed.
func (m *Machine) Output() string { return m.file(outputName) }

// Console is the file with what the guest has printed.
func (m *Machine) Console() string { return m.file(consoleName) }

// Script is a file with lines for sh that repeat the machine's last life by hand.
func (m *Machine) Script() string { return m.file(scriptName) }

// Log is the file with what the supervisor has said.
func (m *Machine) Log() string { return m.file(logName) }

func (m *Machine) file(name string) string { return filepath.Join(m.dir, name) }

// statusTries is how often Status looks again when the machine changed hands
// while it looked. A life takes longer than a look: one more is enough.
const statusTries = 10

// Status finds out what is true of the machine.
func (m *Machine) Status() (s Status, err error) {
	before, err := held(m.file(lifeName))
	for range statusTries {
		if err != nil {
			return s, err
		}
		if s.State, err = m.state(); err != nil {
			return s, err
		}
		s.Alive, err = held(m.file(lifeName))
		if s.Alive == before {
			break
		}
		before = s.Alive
	}
	if s.Phase = concluded(s); s.Phase == Dead {
		s.Error = errorDead
	}
	if err == nil {
		s.Health, err = m.readHealth()
	}
	return s, err
}

// concluded puts together what the state says and whether somebody is there.
func concluded(s Status) Phase {
	switch {
	case s.Alive && s.Phase == Created:
		return Starting // It has not said so yet.
	case s.Alive && s.Phase.over():
		return Stopping // It has let go of everything but its lock.
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
		return State{Phase: Created}, nil
	}
	return s, err
}
