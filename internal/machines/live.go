package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
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
	log     func(line string)
	output  *outputLog // Of its command; nil without one.
	checks  *checker   // nil without any.
	control control
	doors   net.Listener // Of control; nil where it could not be opened.
}

// Up starts the machine and returns when it serves. The caller is its supervisor
// and must call Down. Whoever starts machines in the background has the machine's
// directory in [Variable]. Log is given lines about connections that fail; see [Forward].
func (m *Machine) Up(ctx context.Context, log func(line string)) (*Live, error) {
	life, err := take(m.file(lifeName))
	if err != nil {
		return nil, m.wrap(err)
	}
	l := &Live{machine: m, life: life, log: log}
	if err = reserve(life); err == nil {
		// What a killed supervisor has left; its socket is replaced when ours is made.
		err = endStrays(ctx, m.dir)
	}
	if err == nil {
		l.openControl()
		err = l.begin(ctx)
	}
	if err != nil {
		l.state.Error = err.Error()
		return nil, errors.Join(m.unlessPassing(err), l.end(Failed))
	}
	return l, nil
}

func (m *Machine) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("machine %s: %w", m.Name(), err)
}

// unlessPassing adds the machine's name to an error, except where it says nothing to
// whoever ran it.
func (m *Machine) unlessPassing(err error) error {
	if m.record.Passing {
		return err
	}
	return m.wrap(err)
}

// begin starts a life. When it returns an error nothing of it is left but the state.
func (l *Live) begin(ctx context.Context) (err error) {
	l.state = State{Phase: Starting, PID: os.Getpid(), Started: time.Now().Round(0), Restarts: l.state.Restarts}
	if err := l.say(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.machine.Script()); err != nil {
		return err
	}
	listeners, err := listen(l.machine.record.Ports)
	if err != nil {
		return err
	}
	if l.Machine, err = sandbox.Start(ctx, l.machine.config(l.log)); err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	for i, from := range listeners {
		port := l.machine.record.Ports[i]
		l.ports = append(l.ports, Forward(from, port.Dial(l.Client()), l.log))
		port.Host = from.Addr().String()
		l.state.Ports = append(l.state.Ports, port)
	}
	if err := l.tellRunning(); err != nil {
		return errors.Join(err, l.Kill(), l.closePorts())
	}
	l.control.set(func(c *control) { c.client = l.Client() })
	l.checks = startChecks(l.machine.record.Health, l.Client(), l.machine.file(healthName), l.log)
	return nil
}

func (l *Live) tellRunning() error {
	const private = 0o600
	if err := os.WriteFile(l.machine.Script(), []byte(l.RepeatScript()), private); err != nil {
		return err
	}
	l.state.Phase, l.state.Ready, l.state.Note = Running, time.Now().Round(0), l.Note()
	if why := l.Unshared(); why != nil {
		l.state.Note += "; the root is a disk, no directory is shared: " + why.Error()
	}
	return l.say()
}

// openControl lets others ask the supervisor. A machine is of use without.
func (l *Live) openControl() {
	path := l.machine.file(controlName)
	_ = os.RemoveAll(path) // Of a supervisor that was killed.
	var config net.ListenConfig
	doors, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		l.log("control: " + err.Error())
		return
	}
	l.doors = doors
	go l.control.serve(doors)
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

// OnStop lets whoever stops the machine do so by f, which must not wait, and Signal
// reach its command by deliver.
func (l *Live) OnStop(f func(), deliver func(sig syscall.Signal) error) {
	l.control.set(func(c *control) { c.stop, c.signal = f, deliver })
}

// StopWords are the signal with which the command is asked to end when the machine is
// stopped, and how long it may take then; 0 is no bound.
func (l *Live) StopWords() (signal syscall.Signal, grace time.Duration) {
	return l.control.stopWords(l.machine.record)
}

// Down ends the machine, its commands first, and the life with it. After the end
// of ctx the machine is killed.
func (l *Live) Down(ctx context.Context) error {
	return l.finish(l.settle(ctx, nil, context.Canceled))
}

// Cut ends the machine as a power cut would, and the life with it.
func (l *Live) Cut() error { return l.finish(l.settle(context.Background(), nil, errCut)) }

// settle ends the machine, and not the life yet: the state says how the machine ended.
// failed is what its command has to say, asked is why it is told to end; nil if its
// command, or itself, has ended.
func (l *Live) settle(ctx context.Context, failed, asked error) error {
	ownEnd := false
	select {
	case <-l.Done():
		ownEnd = true
	default:
	}
	l.control.set(func(c *control) { c.client, c.signal = nil, nil })
	_ = l.closePorts() // They only took connections.
	l.checks.end()
	defer l.checks.await()
	var ended error
	if errors.Is(asked, errCut) {
		ended = l.Kill()
	} else {
		l.state.Phase = Stopping
		if err := l.say(); err != nil {
			l.log("state: " + err.Error()) // A full disk: no reason not to stop.
		}
		ended = l.Shutdown(ctx)
	}
	if ownEnd {
		asked = nil
	}
	l.state.Ended = time.Now().Round(0)
	return l.explain(failed, ended, asked)
}

func (l *Live) closePorts() error {
	err := closeAll(l.ports)
	l.ports = nil
	return err
}

// finish ends the life, with the error that the machine ended by.
func (l *Live) finish(err error) error {
	if err == nil {
		return l.machine.unlessPassing(l.end(Stopped))
	}
	l.state.Error = err.Error()
	return l.machine.unlessPassing(errors.Join(err, l.end(Failed)))
}

// end writes the life's last state and ends it.
func (l *Live) end(phase Phase) error {
	l.state.Phase = phase
	if l.state.Ended.IsZero() {
		l.state.Ended = time.Now().Round(0)
	}
	if l.doors != nil {
		_ = l.doors.Close() // Its file goes with it.
	}
	var failed error
	if l.machine.passes(l.state) {
		// Before the life ends: who waits for its end finds nothing left but the last
		// word in the file that it waits for.
		failed = errors.Join(writeLastWord(l.life, l.state), l.machine.discard())
	} else {
		failed = l.conclude()
	}
	return errors.Join(failed, l.life.Close())
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
