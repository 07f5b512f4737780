package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// A Live is a running machine in the hands of its supervisor.
type Live struct {
	*sandbox.Machine
	machine *Machine
	life    *os.File
	state   State
	ports   []io.Closer
	failed  error // Why its command did not run.
}

// Up starts the machine and returns when it serves. The caller is its supervisor
// and must call Down. Whoever starts machines in the background has the machine's
// directory in [Variable]. Log is given lines about connections that fail; see [Forward].
func (m *Machine) Up(ctx context.Context, log func(line string)) (*Live, error) {
	life, err := take(m.file(lifeName))
	if err != nil {
		return nil, m.wrap(err)
	}
	l := &Live{machine: m, life: life, state: State{Phase: Starting, PID: os.Getpid(), Started: time.Now().Round(0)}}
	if err := l.start(ctx, log); err != nil {
		return nil, l.end(err)
	}
	return l, nil
}

func (m *Machine) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("machine %s: %w", m.Name(), err)
}

func (l *Live) start(ctx context.Context, log func(line string)) (err error) {
	if err := l.say(); err != nil {
		return err
	}
	// What a killed supervisor has left; its socket is replaced when ours is made.
	if err := endStrays(ctx, l.machine.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(l.machine.Script()); err != nil {
		return err
	}
	listeners, err := listen(l.machine.record.Ports)
	if err != nil {
		return err
	}
	if l.Machine, err = sandbox.Start(ctx, l.machine.config(log)); err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	for i, from := range listeners {
		port := l.machine.record.Ports[i]
		l.ports = append(l.ports, Forward(from, port.Dial(l.Client()), log))
		port.Host = from.Addr().String()
		l.state.Ports = append(l.state.Ports, port)
	}
	const private = 0o600
	if err := os.WriteFile(l.machine.Script(), []byte(l.Command()), private); err != nil {
		return errors.Join(err, l.Kill(), closeAll(l.ports))
	}
	l.state.Phase, l.state.Ready, l.state.Note = Running, time.Now().Round(0), l.Note()
	if why := l.Unshared(); why != nil {
		l.state.Note += "; the root is a disk, no directory is shared: " + why.Error()
	}
	return l.say()
}

// config is the record's, in the machine's directory.
func (m *Machine) config(log func(line string)) sandbox.Config {
	cfg := m.record.Config
	cfg.Files, cfg.Socket, cfg.Log = m.file(filesName), m.Socket(), log
	if cfg.ConsoleFile == "" {
		cfg.ConsoleFile = m.Console()
	}
	if cfg.Hostname == "" {
		cfg.Hostname = m.Name()
	}
	return cfg
}

// say writes the state down.
func (l *Live) say() error { return writeJSON(filepath.Join(l.machine.dir, stateName), l.state) }

// Down ends the machine, its commands first, and the life with it. After the end
// of ctx the machine is killed.
func (l *Live) Down(ctx context.Context) error {
	l.state.Phase = Stopping
	err := l.say()
	_ = closeAll(l.ports) // They only took connections.
	return l.end(errors.Join(l.failed, err, l.Shutdown(ctx)))
}

// Cut ends the machine as a power cut would, and the life with it.
func (l *Live) Cut() error {
	_ = closeAll(l.ports)
	return l.end(l.Kill())
}

// end ends the life, with the error that it ended by.
func (l *Live) end(err error) error {
	l.state.Phase, l.state.Ended = Stopped, time.Now().Round(0)
	if err != nil {
		l.state.Phase, l.state.Error = Failed, err.Error()
	}
	failed := errors.Join(err, l.say())
	if l.machine.passes(l.state) {
		// Before the life ends: who waits for its end finds nothing left but the last
		// word in the file that it waits for.
		failed = errors.Join(failed, json.NewEncoder(l.life).Encode(l.state), l.machine.discard())
	}
	failed = errors.Join(failed, l.life.Close())
	if l.machine.record.Passing {
		return failed // Its name says nothing to whoever ran it.
	}
	return l.machine.wrap(failed)
}

// passes reports whether the machine is removed at the end of this life: not if it
// did not boot and its files are wanted.
func (m *Machine) passes(s State) bool {
	return m.record.Passing && (!s.Ready.IsZero() || !m.record.Config.Keep)
}

func closeAll[C io.Closer](all []C) (err error) {
	for _, c := range all {
		err = errors.Join(err, c.Close())
	}
	return err
}
