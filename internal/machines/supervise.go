package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	// reportFD is where a supervisor in the background finds the pipe on which it
	// says once that the machine serves, or why not.
	reportFD = 3

	// endWait is for a supervisor to end its machine, after the grace of its command:
	// what its agent takes to say that it has ended (10 s), what the machine may take
	// (16 s), and its helpers after it (5 s at most, each).
	endWait = 40 * time.Second
	// reportWait is for the agent to say that a command has ended that was killed.
	reportWait = 10 * time.Second

	// cutWait is for the same without asking the machine.
	cutWait = 8 * time.Second
)

// What a supervisor is told by signals.
const (
	// SignalStop asks it to end the machine, its commands first.
	SignalStop = syscall.SIGTERM
	// SignalCut asks it to end the machine as a power cut would.
	SignalCut = syscall.SIGQUIT
)

// errCut is the cause of a context whose machine is not asked.
var errCut = errors.New("cut")

// A report is what a supervisor says to who has started it.
type report struct {
	Error  string   `json:"error,omitempty"`
	Status int      `json:"status,omitempty"` // Of a command that could not be started.
	Notes  []string `json:"notes,omitempty"`
}

// Notes says in lines for the user what makes a machine slower than it could be, or
// leaves it less than it might have.
func Notes(m *sandbox.Machine) (lines []string) {
	if m.Emulated() {
		lines = append(lines, m.Note())
	}
	if why := m.Unshared(); why != nil {
		lines = append(lines, "the root is a disk, no directory is shared: "+why.Error())
	}
	if why, ok := errors.AsType[*sandbox.TemplateError](m.Cold()); ok {
		lines = append(lines, why.Error())
	}
	return lines
}

// Launch starts a supervisor in the background, which is argv, and waits until it
// has the machine up; argv has to call Supervise. When ctx ends before that, so
// does the supervisor. A machine that has one already is ErrRunning. The lines are
// its [Notes].
func (m *Machine) Launch(ctx context.Context, argv ...string) (notes []string, err error) {
	if alive, err := held(m.file(lifeName)); err != nil {
		return nil, m.wrap(err)
	} else if alive {
		return nil, m.wrap(ErrRunning)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = ours.Close() }()
	cmd, err := m.background(theirs, argv)
	if err == nil {
		err = keepDescriptors()
	}
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	err = cmd.Start()
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, m.wrap(err)
	}
	go func() { _ = cmd.Wait() }() // For as long as we are here: a zombie would look alive.
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(SignalCut) })
	defer stop()
	var r report
	if err := json.NewDecoder(ours).Decode(&r); err != nil {
		r.Error = fmt.Sprintf("machine %s: its supervisor ended without a word; see %s", m.Name(), m.Log())
	}
	switch {
	case ctx.Err() != nil:
		return nil, errors.Join(context.Cause(ctx), m.awaitEnd(context.WithoutCancel(ctx), endWait))
	case r.Status != 0:
		return r.Notes, &CommandError{r.Status, r.Error}
	case r.Error != "":
		return nil, errors.New(r.Error)
	}
	return r.Notes, nil
}

// background is the supervisor's process, in a session of its own, which no
// terminal's ^C reaches, and in a directory that nobody wants to unmount.
func (m *Machine) background(report *os.File, argv []string) (*exec.Cmd, error) {
	log, err := os.OpenFile(m.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // It outlives us.
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.ExtraFiles = []*os.File{report}
	cmd.Env = append(os.Environ(), Variable+"="+m.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// keepDescriptors keeps what we were given from what we start, but for standard
// input, output and error: a lock or a pipe of a shell's would be held for as long
// as the machine runs, and who waits for its end would wait as long.
func keepDescriptors() error {
	const given = 3
	open, err := os.ReadDir("/proc/self/fd")
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= given {
			syscall.CloseOnExec(fd)
		}
	}
	return err
}

// Supervise is a supervisor's life in the background: it brings the machine up, and
// its command, says so to Launch, and ends it when stop ends, or its command, or the
// machine; or starts it again, as its policy says.
func (m *Machine) Supervise(stop context.Context, log func(line string)) error {
	launcher := os.NewFile(reportFD, "launcher")
	stop, cancel := context.WithCancel(stop)
	defer cancel()
	if d := m.record.Timeout; d > 0 {
		var expire context.CancelFunc
		stop, expire = context.WithTimeout(stop, d)
		defer expire()
	}
	l, err := m.Up(stop, log)
	var r report
	var command *client.Cmd
	if err == nil {
		l.OnStop(cancel, nil)
		r.Notes = Notes(l.Machine)
		command, err = l.startCommand(stop)
		if err != nil {
			err = l.finish(l.settle(context.Background(), err, nil))
		}
	}
	if err != nil {
		r.Error = err.Error()
		if refused, ok := errors.AsType[*CommandError](err); ok {
			r.Status = refused.Status
		}
	}
	// A launcher that is gone needs no report.
	_ = json.NewEncoder(launcher).Encode(r)
	_ = launcher.Close()
	if err != nil {
		return err
	}
	return l.supervise(stop, command)
}

// supervise sees one life after the other to its end.
func (l *Live) supervise(stop context.Context, command *client.Cmd) error {
	var pause time.Duration
	err := l.live(stop, command)
	for {
		if l.state.Phase = Stopped; err != nil {
			l.state.Phase, l.state.Error = Failed, err.Error()
		}
		if stop.Err() != nil || !l.machine.record.Restart.again(l.state) {
			return l.finish(err)
		}
		pause = nextPause(pause, l.state.Ended.Sub(l.state.Started))
		if !l.rest(stop, pause) {
			return l.finish(err)
		}
		if command, err = l.once(stop); err == nil {
			err = l.live(stop, command)
		}
	}
}

// rest waits between two lives, and reports whether there is to be another.
func (l *Live) rest(stop context.Context, pause time.Duration) bool {
	l.state.Phase = Restarting
	if err := l.say(); err != nil {
		l.log("state: " + err.Error())
	}
	select {
	case <-time.After(pause):
		l.state.Restarts++
		return true
	case <-stop.Done():
		return false
	}
}

// once starts the machine again, with its command.
func (l *Live) once(stop context.Context) (command *client.Cmd, err error) {
	if err := l.begin(stop); err != nil {
		l.state.Ended = time.Now().Round(0)
		return nil, err
	}
	if command, err = l.startCommand(stop); err != nil {
		return nil, l.settle(context.Background(), err, nil)
	}
	return command, nil
}

// live waits for the end of one life and carries it out. The error is why it failed.
func (l *Live) live(stop context.Context, command *client.Cmd) error {
	var failed error
	if command != nil {
		failed = l.await(stop, command)
	} else {
		select {
		case <-stop.Done():
		case <-l.Done():
		}
	}
	var asked error
	if stop.Err() != nil {
		asked = context.Cause(stop)
	}
	return l.settle(context.Background(), failed, asked)
}

// startCommand starts the machine's command, if it has one. What it prints goes to the
// output's files, after what it has printed before.
func (l *Live) startCommand(ctx context.Context) (*client.Cmd, error) {
	argv := l.machine.record.Command
	if len(argv) == 0 {
		return nil, nil //nolint:nilnil // No command is no failure.
	}
	out, err := openOutput(l.machine.Output())
	if err != nil {
		return nil, err
	}
	cmd := l.Client().CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Sink = out.take
	cmd.Cancel = func() error { return l.stopCommand(cmd) }
	if err := cmd.Start(); err != nil {
		code := &CommandError{}
		if err = StartError(argv[0], err); errors.As(err, &code) {
			l.state.Exit = &code.Status
		}
		return nil, errors.Join(err, out.close())
	}
	l.control.set(func(c *control) { c.signal = cmd.Signal })
	l.output = out
	return cmd, nil
}

// stopCommand asks the machine's command to end, and kills it when its grace is over.
func (l *Live) stopCommand(cmd *client.Cmd) error {
	signal, grace := l.StopWords()
	if grace > 0 {
		time.AfterFunc(grace, func() { _ = cmd.Kill() }) // It may have ended.
		cmd.WaitDelay = grace + reportWait               // Which is asked for after this.
	}
	return cmd.Signal(signal)
}

// await waits for the machine's command.
func (l *Live) await(ctx context.Context, cmd *client.Cmd) error {
	err := cmd.Wait()
	if exit, ok := errors.AsType[*client.ExitError](err); ok || err == nil {
		status := 0
		if ok {
			status = exitStatus(exit)
		}
		l.state.Exit = &status
		err = nil
	}
	if ctx.Err() != nil {
		err = nil // It was told to end.
	}
	return errors.Join(err, l.output.close())
}

// CutCause is the cause for which the context of Supervise ends when the machine
// is not to be asked.
func CutCause() error { return errCut }

// A StopRequest is how to stop a machine with a command.
type StopRequest struct {
	Signal syscall.Signal // For its command; 0 is the machine's own.
	Grace  *time.Duration // For its command; nil is the machine's own, less than 0 for ever.
}

// Stop asks a running machine to end, and waits until it has.
func (m *Machine) Stop(ctx context.Context, q StopRequest) error {
	wait := DefaultGrace
	for _, given := range []*time.Duration{m.record.StopTimeout, q.Grace} {
		if given != nil {
			wait = *given
		}
	}
	if wait += endWait; wait < endWait {
		wait = forEver
	}
	err := m.ask(ctx, request{Do: controlStop, Signal: q.Signal, Grace: q.Grace})
	if err != nil {
		return m.endBy(ctx, SignalStop, wait) // It may be starting, or of an older version.
	}
	return m.awaitOrKill(ctx, wait)
}

// forEver is longer than any machine lives.
const forEver = 100 * 365 * 24 * time.Hour

// Kill ends a machine as a power cut would.
func (m *Machine) Kill(ctx context.Context) error { return m.endBy(ctx, SignalCut, cutWait) }

// endBy tells the supervisor; one that does not end in time is killed, and QEMU
// with it.
func (m *Machine) endBy(ctx context.Context, word os.Signal, wait time.Duration) error {
	supervisor, err := m.supervisor()
	if err != nil {
		return m.wrap(err)
	}
	defer func() { _ = supervisor.Release() }()
	if err := supervisor.Signal(word); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return m.wrap(err)
	}
	return m.awaitOrKill(ctx, wait)
}

// awaitOrKill waits for the end of the machine, and kills a supervisor that takes longer.
func (m *Machine) awaitOrKill(ctx context.Context, wait time.Duration) error {
	err := m.awaitEnd(ctx, wait)
	if !errors.Is(err, errSlow) {
		return err
	}
	supervisor, err := m.supervisor()
	if errors.Is(err, ErrNotRunning) {
		return nil // It has ended this moment.
	}
	if err != nil {
		return m.wrap(err)
	}
	_ = supervisor.Kill() // It may have ended this moment.
	return errors.Join(supervisor.Release(), m.awaitEnd(ctx, cutWait), endStrays(ctx, m.dir))
}

// supervisor returns the process that holds the life. The handle is opened before
// the holder is looked at, so its number cannot be another's by then.
func (m *Machine) supervisor() (*os.Process, error) {
	// Before its state, which need not be legible for a machine to be removed.
	if alive, err := held(m.file(lifeName)); err != nil {
		return nil, err
	} else if !alive {
		return nil, ErrNotRunning
	}
	s, err := m.state()
	if err != nil {
		return nil, err
	}
	if s.Phase.over() { // Or it is about to begin or to end: it cannot be told apart.
		return nil, ErrNotRunning
	}
	p, err := os.FindProcess(s.PID)
	if err != nil {
		return nil, err
	}
	alive, err := held(m.file(lifeName))
	again, failed := m.state()
	if err = errors.Join(err, failed); err == nil && (!alive || again.PID != s.PID) {
		err = ErrNotRunning
	}
	if err != nil {
		return nil, errors.Join(err, p.Release())
	}
	return p, nil
}

var errSlow = errors.New("its supervisor does not end")

// Await waits until the machine has no supervisor, and says how it ended. One that
// was removed meanwhile, and has not said so in its life, is ErrNotFound.
func (m *Machine) Await(ctx context.Context) (s State, err error) {
	last, err := awaitEnd(ctx, m.file(lifeName))
	if err != nil {
		return s, m.wrap(err)
	}
	if _, gone := os.Lstat(m.dir); errors.Is(gone, os.ErrNotExist) {
		if json.Unmarshal(last, &s) != nil { // It was killed before it could.
			err = m.wrap(ErrNotFound)
		}
		return s, err
	}
	status, err := m.Status()
	return status.State, err
}

func (m *Machine) awaitEnd(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errSlow)
	defer cancel()
	_, err := awaitEnd(ctx, m.file(lifeName))
	return m.wrap(err)
}

// Remove removes a machine that has no supervisor, with all that is left of it.
func (m *Machine) Remove(ctx context.Context) error {
	life, err := take(m.file(lifeName))
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return m.wrap(err)
	}
	defer func() { _ = life.Close() }() // The file is gone by then.
	if err := endStrays(ctx, m.dir); err != nil {
		return m.wrap(err)
	}
	return m.wrap(m.discard())
}

// discard makes the directory vanish. The caller holds the life.
func (m *Machine) discard() error {
	return m.store.change(func() error { return m.store.discard(m.dir) })
}

// exitStatus is a command's status as shells have it.
func exitStatus(e *client.ExitError) int {
	const signaled = 128
	if e.Signaled {
		return signaled + int(e.Signal)
	}
	return e.ExitCode()
}
