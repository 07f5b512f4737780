package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// A Live is a running machine; its supervisor owns it.
type Live struct {
	*sandbox.Machine
	machine *Machine
	life    *os.File
	state   State
	ports   []io.Closer
	log     func(line string)
	output  *outputLog // Log of its command; nil without a command.
	checks  *checker   // nil without any.
	control control
	doors   net.Listener // Listener of the control socket; nil if it could not be opened.

	pausedBefore bool // The machine was paused before this supervisor began.
	adopted      bool // This supervisor has taken the machine over from one that was killed, and has not ended it yet.
	restored     bool // This life began from a pause without a supervisor: nobody awaits its command.

	saving sync.Mutex // Held while the machine is paused, resumed, saved, or told to end; guards state then.
	ending bool
}

// Up starts the machine and returns when it serves. The caller becomes its supervisor and
// must call Down. A supervisor in the background must have the machine's directory in
// [Variable]. Up calls log with lines about failed connections; see [Forward].
func (m *Machine) Up(ctx context.Context, log func(line string)) (*Live, error) {
	life, err := take(m.file(lifeName))
	if err != nil {
		return nil, m.wrap(err)
	}
	l := &Live{machine: m, life: life, log: log, pausedBefore: m.wasPaused()}
	if err = reserve(life); err == nil {
		// End the processes of a killed supervisor. Its socket is replaced later.
		err = m.endStrays(ctx)
	}
	if err == nil {
		if err = l.openControl(); err == nil {
			err = l.begin(ctx)
		}
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

// unlessPassing adds the machine's name to an error, except for a machine of run, whose
// name the user has not chosen.
func (m *Machine) unlessPassing(err error) error {
	if m.record.Passing {
		return err
	}
	return m.wrap(err)
}

// begin starts a life. After an error only the state is left of it.
func (l *Live) begin(ctx context.Context) (err error) {
	l.state = State{Phase: Starting, PID: os.Getpid(), Started: time.Now().Round(0), Restarts: l.state.Restarts}
	if err := l.say(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.machine.Script()); err != nil {
		return err
	}
	entrances, err := openAll(l.machine.record.Ports)
	if err != nil {
		return err
	}
	if err := l.startOrRestore(ctx); err != nil {
		return errors.Join(err, closeAll(entrances))
	}
	for i, from := range entrances {
		port := l.machine.record.Ports[i]
		l.ports = append(l.ports, from.Forward(l.Client(), l.log))
		port.Host = from.Addr().String()
		l.state.Ports = append(l.state.Ports, port)
	}
	if err := l.tellRunning(); err != nil {
		return errors.Join(err, l.Kill(), l.closePorts())
	}
	l.serve()
	return nil
}

// serve lets requests reach the machine, and begins its health checks.
func (l *Live) serve() {
	l.ending = false
	l.control.set(func(c *control) { c.client, c.grow, c.live = l.Client(), l.grow, l })
	l.checks = startChecks(l.machine.record.Health, l.Client(), l.machine.file(healthName), l.log)
}

// growWait bounds the growth of a disk, less than controlWait: the guest gives up sooner.
const growWait = 25 * time.Second

// grow makes the disk of the machine's root larger.
func (l *Live) grow(size int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), growWait)
	defer cancel()
	const private = 0o600
	if err := os.WriteFile(l.machine.file(grownName), nil, private); err != nil {
		return err
	}
	_, err := l.GrowRoot(ctx, size)
	return err
}

// startOrRestore starts the machine, or lets it go on if it is paused.
func (l *Live) startOrRestore(ctx context.Context) (err error) {
	m := l.machine
	if l.restored = l.pausedBefore && m.isPaused(); l.restored {
		l.Machine, err = sandbox.Restore(ctx, m.file(pausedName), m.restoreConfig(l.log))
		return err
	}
	if err := m.forget(); err != nil {
		return err
	}
	l.Machine, err = sandbox.Start(ctx, m.config(l.log))
	return err
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

// openControl opens the control socket. An error does not stop a machine that is useful
// without it: one that ends with its supervisor.
func (l *Live) openControl() error {
	path := l.machine.file(controlName)
	_ = os.RemoveAll(path) // The socket of a killed supervisor.
	var config net.ListenConfig
	doors, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		if l.machine.record.Survive {
			return fmt.Errorf("control: %w", err)
		}
		l.log("control: " + err.Error())
		return nil
	}
	l.doors = doors
	go l.control.serve(doors)
	return nil
}

// config returns the record's configuration with paths in the machine's directory.
func (m *Machine) config(log func(line string)) sandbox.Config {
	cfg := m.record.Config
	if cfg.Upper.Disk != "" && exists(m.file(grownName)) && exists(cfg.Upper.Disk) {
		cfg.Upper.SizeMiB = 0 // The disk was made with that size, and has another now.
	}
	cfg.Files, cfg.Socket, cfg.Log = m.file(filesName), m.Socket(), log
	if m.record.Survive {
		cfg.Survive, cfg.Warm = m.dir, sandbox.WarmNone
	}
	if cfg.ConsoleFile == "" {
		cfg.ConsoleFile = m.Console()
	}
	if cfg.Hostname == "" {
		cfg.Hostname = m.Name()
	}
	return cfg
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// say writes the state file.
func (l *Live) say() error { return writeJSON(filepath.Join(l.machine.dir, stateName), l.state) }

// OnStop sets how requests reach the caller: a stop calls f, which must not wait, and
// Signal calls deliver, which signals the machine's command.
func (l *Live) OnStop(f func(), deliver func(sig syscall.Signal) error) {
	l.control.set(func(c *control) { c.stop, c.signal = f, deliver })
}

// StopWords returns the signal that asks the command to end when the machine is
// stopped, and its grace period; 0 means no bound.
func (l *Live) StopWords() (signal syscall.Signal, grace time.Duration) {
	return l.control.stopWords(l.machine.record)
}

// Down ends the machine's commands, the machine, and the life. After the end of ctx it
// kills the machine.
func (l *Live) Down(ctx context.Context) error {
	return l.finish(l.settle(ctx, nil, context.Canceled))
}

// Cut ends the machine like a power cut, and then the life.
func (l *Live) Cut() error { return l.finish(l.settle(context.Background(), nil, errCut)) }

// settle ends the machine but not the life, and writes to the state how the machine
// ended. failed is its command's error. asked is the reason why the machine is told to
// end; nil if its command or the machine has ended by itself.
func (l *Live) settle(ctx context.Context, failed, asked error) error {
	l.saving.Lock()
	l.ending, l.pausedBefore = true, false
	l.saving.Unlock()
	defer func() {
		if err := l.machine.forget(); err != nil {
			l.log("paused: " + err.Error())
		}
	}()
	ownEnd := false
	select {
	case <-l.Done():
		ownEnd = true
	default:
	}
	l.control.set(func(c *control) { c.client, c.grow, c.signal, c.live = nil, nil, nil, nil })
	_ = l.closePorts() // Only listeners, so nothing is lost.
	l.checks.end()
	defer l.checks.await()
	var ended error
	if errors.Is(asked, errCut) {
		ended = l.Kill()
	} else {
		l.state.Phase = Stopping
		if err := l.say(); err != nil {
			l.log("state: " + err.Error()) // A full disk must not prevent the stop.
		}
		ended = errors.Join(l.resumeToEnd(ctx), l.Shutdown(ctx))
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

// finish ends the life; err is the machine's error.
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
		_ = l.doors.Close() // Also removes its socket file.
	}
	var failed error
	if l.machine.passes(l.state) {
		// Removed before the life ends, so that a waiter finds only the final state in
		// the life file.
		failed = errors.Join(writeLastWord(l.life, l.state), l.machine.discard())
	} else {
		failed = l.conclude()
	}
	return errors.Join(failed, l.life.Close())
}

// passes reports whether the machine is removed at the end of this life. A machine that
// failed to boot stays if the user wants its files.
func (m *Machine) passes(s State) bool {
	return m.record.Passing && (!s.Ready.IsZero() || !m.record.Config.Keep)
}

func closeAll[C io.Closer](all []C) (err error) {
	for _, c := range all {
		err = errors.Join(err, c.Close())
	}
	return err
}
