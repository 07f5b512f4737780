package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

const (
	// pausedName is the directory of a paused machine's memory. See sandbox.Machine.Pause.
	pausedName = "paused"

	// savingWait is how long a supervisor may take to pause its machine, to resume it or to
	// make a snapshot: 25 s in the guest, and the memory and the disks on a slow disk.
	savingWait = 10 * time.Minute
)

// Words of a request.
const (
	controlPause    = "pause"
	controlResume   = "resume"
	controlSnapshot = "snapshot"
)

var (
	// ErrPaused says that a machine is paused.
	ErrPaused = errors.New("it is paused")
	// ErrNotPaused says that a machine is not paused.
	ErrNotPaused = errors.New("it is not paused")

	errEnding = errors.New("it is being stopped")
)

// saves carries out a request about the machine's memory.
func (l *Live) saves(ctx context.Context, q request) error {
	l.saving.Lock()
	defer l.saving.Unlock()
	if l.ending {
		return errEnding
	}
	switch q.Do {
	case controlPause:
		return l.pause(ctx)
	case controlResume:
		return l.resume(ctx)
	}
	record, err := l.machine.encoded()
	if err != nil {
		return err
	}
	if l.Paused() {
		return ErrPaused
	}
	return l.Snapshot(ctx, q.Dir, record)
}

// encoded is the machine's record for a snapshot.
func (m *Machine) encoded() (json.RawMessage, error) { return json.Marshal(storeRecord(m.record)) }

// pause writes the machine's memory to the disk and frees it.
func (l *Live) pause(ctx context.Context) error {
	if l.Paused() {
		return ErrPaused
	}
	if err := l.CheckSavable(); err != nil {
		return err
	}
	record, err := l.machine.encoded()
	if err != nil {
		return err
	}
	l.checks.hold()
	if err := l.Pause(ctx, l.machine.file(pausedName), record); err != nil {
		l.checks.release()
		return err
	}
	l.state.Phase = Paused
	return l.say()
}

func (l *Live) resume(ctx context.Context) error {
	if !l.Paused() {
		return ErrNotPaused
	}
	err := l.Resume(ctx)
	if l.Paused() {
		return err
	}
	l.checks.release()
	l.state.Phase = Running
	return errors.Join(err, l.say())
}

// resumeToEnd resumes a paused machine, so that it can end in order. If that fails the
// machine is killed.
func (l *Live) resumeToEnd(ctx context.Context) error {
	if !l.Paused() {
		return nil
	}
	err := l.Resume(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("resume it to stop it: %w", err), l.Kill())
	}
	return err
}

// isPaused reports whether the machine's memory is on the disk, whole and fitting its
// disks, so that Resume can continue it without a supervisor.
func (m *Machine) isPaused() bool { return m.checkPause() == nil }

// wasPaused reports whether the machine is paused and has no supervisor.
func (m *Machine) wasPaused() bool {
	s, err := m.state()
	return err == nil && !s.Phase.over() && m.isPaused()
}

func (m *Machine) checkPause() error {
	return sandbox.CheckPause(m.file(pausedName), m.file(filesName))
}

// forget removes what is left of a pause.
func (m *Machine) forget() error {
	err := os.RemoveAll(m.file(pausedName))
	left, _ := filepath.Glob(m.file(pausedName) + ".*") // The pattern is well formed.
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// Pause writes a running machine's memory to the disk and frees it. The machine's
// processes stand still until Resume.
func (m *Machine) Pause(ctx context.Context) error {
	return m.askSaving(ctx, request{Do: controlPause})
}

// Resume continues a paused machine. If it has a supervisor, all commands and their clients
// go on. Otherwise the supervisor was killed: argv starts another as in Launch, and the
// machine's commands go on without their clients. notes are those of Launch.
func (m *Machine) Resume(ctx context.Context, argv ...string) (notes []string, err error) {
	if alive, err := m.alive(); err != nil {
		return nil, m.wrap(err)
	} else if alive {
		return nil, m.askSaving(ctx, request{Do: controlResume})
	}
	err = m.checkPause()
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotPaused
	}
	if err != nil {
		return nil, m.wrap(err)
	}
	return m.launch(ctx, argv...)
}

// askSaving is askRunning for requests that take long.
func (m *Machine) askSaving(ctx context.Context, q request) error {
	if alive, err := m.alive(); err != nil {
		return m.wrap(err)
	} else if !alive && m.isPaused() {
		return m.wrap(ErrPaused)
	}
	err := m.askRunning(ctx, q)
	for _, known := range []error{ErrPaused, ErrNotPaused} {
		if err != nil && strings.HasSuffix(err.Error(), ": "+known.Error()) {
			return m.wrap(known) // The supervisor's answer is a text.
		}
	}
	return err
}

// restoreConfig says how a paused machine goes on.
func (m *Machine) restoreConfig(log func(line string)) sandbox.RestoreConfig {
	cfg := m.config(log)
	return sandbox.RestoreConfig{Files: cfg.Files, Socket: cfg.Socket, Log: cfg.Log, ConsoleFile: cfg.ConsoleFile}
}
