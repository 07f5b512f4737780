package machines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	// adoptWait bounds the wait for another process that adopts the machine: see
	// sandbox.Adopt, and the host's start of a process.
	adoptWait = 90 * time.Second
	// adoptLook is the interval between looks at it.
	adoptLook = 50 * time.Millisecond

	// keptEnd is how long the agent keeps the end of the machine's command for a supervisor
	// that is not there: as long as it can.
	keptEnd = 30 * 24 * time.Hour
)

// errorOrphan is the error of a machine whose QEMU was ended in place of its supervisor.
const errorOrphan = "its supervisor was killed while it was %s, so it was ended"

// served reports whether a supervisor takes requests.
func (m *Machine) served() bool {
	conn, err := net.DialTimeout("unix", m.file(controlName), controlWait) //nolint:noctx // It has a bound.
	if err != nil {
		return false
	}
	_ = conn.Close() // It asks for nothing.
	return true
}

// Adopt gives a machine with [Record.Survive] a supervisor if its own was killed and the
// machine goes on. argv is the supervisor's command, as in Launch; it must call
// [Machine.Supervise] so that it adopts. Adopt does nothing for any other machine. If another
// program adopts the machine, Adopt waits for that. The end of ctx does not end the machine.
func (m *Machine) Adopt(ctx context.Context, argv ...string) error {
	if !m.record.Survive {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, adoptWait)
	defer cancel()
	for {
		wants, busy, err := m.orphan()
		switch {
		case err != nil || !wants && !busy:
			return err
		case wants:
			_, err = m.launch(context.WithoutCancel(ctx), argv...)
			if err == nil || !sandbox.LeftRunning(m.dir) {
				return nil // Or it was ended; its state says why.
			}
			if !m.isHeld() {
				return err
			}
		}
		select { // Another program adopts it: only its lock says so, and nothing tells of its end.
		case <-time.After(adoptLook):
		case <-ctx.Done():
			return m.wrap(fmt.Errorf("another agentctl takes it over and does not finish: %w", ctx.Err()))
		}
	}
}

func (m *Machine) isHeld() bool {
	alive, err := m.alive()
	return err == nil && alive
}

// orphan reports whether the machine needs another supervisor, or whether one is taking it
// over.
func (m *Machine) orphan() (wants, busy bool, err error) {
	alive, err := m.alive()
	if err != nil {
		return false, false, m.wrap(err)
	}
	if !alive {
		return sandbox.LeftRunning(m.dir), false, nil
	}
	s, err := m.state()
	if err != nil {
		return false, false, m.wrap(err)
	}
	return false, s.Phase == Running && !m.served(), nil
}

// KillLeft ends a machine like a power cut whose supervisor was killed and which goes on. The
// error is ErrNotRunning for any other machine.
func (m *Machine) KillLeft() error {
	if !m.record.Survive {
		return m.wrap(ErrNotRunning)
	}
	life, err := take(m.file(lifeName))
	if errors.Is(err, os.ErrNotExist) || err == nil && !sandbox.LeftRunning(m.dir) {
		err = errors.Join(ErrNotRunning, closeLife(life))
	}
	if err != nil {
		return m.wrap(err)
	}
	l := &Live{machine: m, life: life, log: func(string) {}}
	if l.state, err = m.state(); err == nil {
		err = sandbox.EndLeft(m.dir)
	}
	if err != nil {
		return m.wrap(errors.Join(err, closeLife(life)))
	}
	l.state.Reason, l.state.Ended = reasonKilled, time.Now().Round(0)
	return l.end(Stopped)
}

func closeLife(life *os.File) error {
	if life == nil {
		return nil
	}
	return life.Close()
}

// TakeUp is Up for a machine whose supervisor was killed and which goes on. A machine that
// was not running then, but starting or stopping, is ended.
func (m *Machine) TakeUp(ctx context.Context, log func(line string)) (*Live, error) {
	life, err := take(m.file(lifeName))
	if err != nil {
		return nil, m.wrap(err)
	}
	l := &Live{machine: m, life: life, log: log, adopted: true}
	if l.state, err = m.state(); err != nil {
		return nil, m.wrap(errors.Join(err, life.Close()))
	}
	if was := l.state.Phase; was != Running {
		l.state.Error = fmt.Sprintf(errorOrphan, was)
		return nil, m.wrap(errors.Join(errors.New(l.state.Error), sandbox.EndLeft(m.dir), l.end(Failed)))
	}
	if err := l.takeUp(ctx); err != nil {
		return nil, m.wrap(errors.Join(fmt.Errorf("take it over: %w", err), life.Close()))
	}
	return l, nil
}

// takeUp adopts the machine and opens what its supervisor had open.
func (l *Live) takeUp(ctx context.Context) (err error) {
	cfg := l.machine.config(l.log)
	l.Machine, err = sandbox.Adopt(ctx, l.machine.dir, sandbox.AdoptConfig{
		Socket: cfg.Socket, ConsoleFile: cfg.ConsoleFile, Log: l.log,
	})
	if err != nil {
		return err
	}
	l.log("took the machine over: its supervisor was killed")
	l.reopenPorts()
	l.state.PID = os.Getpid()
	if err := l.say(); err != nil {
		l.log("state: " + err.Error()) // A full disk must not leave the machine alone.
	}
	l.serve()
	return l.openControl()
}

// reopenPorts listens again at the ports that the last supervisor had. What another program
// has taken meanwhile is left out: the machine is useful without it.
func (l *Live) reopenPorts() {
	was := l.state.Ports
	l.state.Ports = nil
	for _, p := range was {
		from, err := p.Open(context.Background())
		if err != nil {
			l.log("port " + p.String() + ": " + err.Error())
			continue
		}
		l.ports = append(l.ports, from.Forward(l.Client(), l.log))
		l.state.Ports = append(l.state.Ports, p)
	}
}

// resumeCommand attaches to the machine's command, or starts it if the last supervisor had
// not come to that. The log goes on where it ends.
func (l *Live) resumeCommand(ctx context.Context) (*client.Cmd, error) {
	if len(l.machine.record.Command) == 0 {
		return nil, nil //nolint:nilnil // No command is no failure.
	}
	kept, err := l.Client().Kept(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range kept {
		if k.Name == MainCommand {
			return l.attachCommand(ctx)
		}
	}
	return l.startCommand(ctx)
}

func (l *Live) attachCommand(ctx context.Context) (*client.Cmd, error) {
	out, err := openOutput(l.machine.Output())
	if err != nil {
		return nil, err
	}
	if err := out.count(); err != nil {
		return nil, errors.Join(err, out.close())
	}
	from := out.offsets
	cmd := l.Client().Attach(ctx, MainCommand, client.View{Stdout: &from[0], Stderr: &from[1], Gap: out.gap})
	cmd.Sink = out.take
	cmd.Cancel = func() error { return l.stopCommand(cmd) }
	if err := out.join(cmd); err != nil {
		return nil, errors.Join(err, out.close())
	}
	l.control.set(func(c *control) { c.signal = cmd.Signal })
	l.output = out
	return cmd, nil
}
