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
	// reportFD is the descriptor of a background supervisor's pipe to Launch. It
	// reports there once that the machine serves, or why not.
	reportFD = 3

	// endWait is how long a supervisor may take to end its machine after the grace
	// period of its command: the agent's report of the command's end (10 s), the
	// machine's end (16 s), and the ends of its QEMU and file servers (at most 5 s
	// each).
	endWait = 40 * time.Second
	// reportWait is how long the agent may take to report the end of a killed command.
	reportWait = 10 * time.Second

	// cutWait is like endWait when the machine is not asked to end.
	cutWait = 8 * time.Second
)

// Signals to a supervisor.
const (
	// SignalStop asks it to end the machine, its commands first.
	SignalStop = syscall.SIGTERM
	// SignalCut asks it to end the machine as a power cut would.
	SignalCut = syscall.SIGQUIT
)

// errCut is the cause of a context whose end cuts the machine off without asking it.
var errCut = errors.New("cut")

// A report is a supervisor's message to Launch.
type report struct {
	Error  string   `json:"error,omitempty"`
	Status int      `json:"status,omitempty"` // Exit status for a command that could not be started.
	Notes  []string `json:"notes,omitempty"`
}

// Notes returns lines for the user about what makes a machine slower than it could be,
// or which features it lacks.
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

// Launch starts argv, which must call Supervise, as the machine's supervisor in the
// background, and waits until the machine serves. If ctx ends before that, the
// supervisor ends too. The error is ErrRunning if the machine has a supervisor already.
// Launch returns the machine's [Notes].
func (m *Machine) Launch(ctx context.Context, argv ...string) (notes []string, err error) {
	if alive, err := m.alive(); err != nil {
		return nil, m.wrap(err)
	} else if alive {
		return nil, m.wrap(ErrRunning)
	}
	if m.wasPaused() {
		return nil, m.wrap(ErrPaused)
	}
	return m.launch(ctx, argv...)
}

func (m *Machine) launch(ctx context.Context, argv ...string) (notes []string, err error) {
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
	go func() { _ = cmd.Wait() }() // Reap it while this program runs: a zombie would look alive.
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

// background prepares the supervisor's process. It has its own session, so that no
// terminal's ^C reaches it, and the root as its directory, so that it keeps no file
// system busy.
func (m *Machine) background(report *os.File, argv []string) (*exec.Cmd, error) {
	log, err := os.OpenFile(m.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // It outlives this process.
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.ExtraFiles = []*os.File{report}
	cmd.Env = append(os.Environ(), Variable+"="+m.dir)
	cmd.SysProcAttr = ownSession()
	return cmd, nil
}

// keepDescriptors marks all inherited descriptors except standard input, output and
// error as close-on-exec. Otherwise the supervisor would hold a shell's lock or pipe as
// long as the machine runs, and a program that waits for its end would block.
func keepDescriptors() error {
	const given = 3
	open, err := os.ReadDir("/proc/self/fd")
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= given {
			closeOnExec(fd)
		}
	}
	return err
}

// Supervise runs a background supervisor. It starts the machine and its command, or with
// adopt takes them over as [Machine.TakeUp] does, and reports to Launch. It ends the machine
// when stop ends, or when its command or the machine itself has ended; then its policy may
// start it again.
func (m *Machine) Supervise(stop context.Context, adopt bool, log func(line string)) error {
	launcher := os.NewFile(reportFD, "launcher")
	stop, cancel := context.WithCancel(stop)
	defer cancel()
	if d := m.record.Timeout; d > 0 {
		var expire context.CancelFunc
		stop, expire = context.WithDeadline(stop, m.begun(adopt).Add(d))
		defer expire()
	}
	up, begin := m.Up, (*Live).startCommand
	if adopt {
		up, begin = m.TakeUp, (*Live).resumeCommand
	}
	l, err := up(stop, log)
	var r report
	var command *client.Cmd
	if err == nil {
		l.OnStop(cancel, nil)
		r.Notes = Notes(l.Machine)
		command, err = begin(l, stop)
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
	// If Launch has ended, nobody needs the report.
	_ = json.NewEncoder(launcher).Encode(r)
	_ = launcher.Close()
	if err != nil {
		return err
	}
	return l.supervise(stop, command)
}

// begun is when the machine's time began: now, or before it was adopted.
func (m *Machine) begun(adopt bool) time.Time {
	if s, err := m.state(); adopt && err == nil {
		return s.Started
	}
	return time.Now()
}

// supervise waits for the end of each life and restarts the machine as its policy says.
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

// rest waits between two lives. It returns false if the machine is stopped meanwhile.
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

// once restarts the machine and its command.
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

// live waits until one life is to end, and ends it. The error says why the life failed.
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

// startCommand starts the machine's command, if it has one. Its output is appended to
// the output's files.
func (l *Live) startCommand(ctx context.Context) (*client.Cmd, error) {
	argv := l.machine.record.Command
	if len(argv) == 0 || l.restored {
		return nil, nil //nolint:nilnil // No command is no failure.
	}
	out, err := openOutput(l.machine.Output())
	if err != nil {
		return nil, err
	}
	cmd := l.Client().CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Sink = out.take
	cmd.Resources.PIDs = l.machine.record.PIDs
	cmd.Cancel = func() error { return l.stopCommand(cmd) }
	if err := l.keep(cmd, out); err != nil {
		return nil, errors.Join(err, out.close())
	}
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

// usualTerm is the kind of terminal that container tools give to commands.
const usualTerm = "TERM=xterm"

// keep lets the agent keep the machine's command if clients are to attach to it. What this
// program cannot write to the log in time is lost there, and the log says so.
func (l *Live) keep(cmd *client.Cmd, out *outputLog) error {
	r := &l.machine.record
	if !r.Kept() {
		return nil
	}
	cmd.Keep = &client.Keep{Name: MainCommand, Gap: out.gap}
	if r.Survive {
		cmd.Keep.Age, out.stamped = keptEnd, true
	}
	if !r.TTY && !r.Input {
		return nil
	}
	if r.TTY {
		cmd.TTY, cmd.AddEnv = true, []string{usualTerm}
	}
	_, err := cmd.StdinPipe() // Open until a client that attaches ends it.
	return err
}

// stopCommand signals the machine's command to end, and kills it after its grace
// period.
func (l *Live) stopCommand(cmd *client.Cmd) error {
	signal, grace := l.StopWords()
	if grace > 0 {
		time.AfterFunc(grace, func() { _ = cmd.Kill() }) // It may have ended.
		cmd.WaitDelay = grace + reportWait               // Wait takes it into account from now on.
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
		err = nil // The error only says that it was told to end.
	}
	return errors.Join(err, l.output.close())
}

// CutCause is the cause with which to cancel Supervise's context to cut the machine off
// without asking it.
func CutCause() error { return errCut }

// A StopRequest says how to stop a machine's command.
type StopRequest struct {
	Signal syscall.Signal // For its command; 0 means the machine's own.
	Grace  *time.Duration // For its command; nil means the machine's own, less than 0 no bound.
}

// Stop asks a running machine to end, and waits for its end.
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
		return m.endBy(ctx, SignalStop, wait) // The supervisor may be starting, or of an older version.
	}
	return m.awaitOrKill(ctx, wait)
}

// forEver is longer than any machine runs.
const forEver = 100 * 365 * 24 * time.Hour

// Kill ends a machine like a power cut.
func (m *Machine) Kill(ctx context.Context) error { return m.endBy(ctx, SignalCut, cutWait) }

// endBy signals the supervisor. If it does not end in time, endBy kills it, and QEMU
// dies with it or after it.
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
		return nil // It has just ended.
	}
	if err != nil {
		return m.wrap(err)
	}
	_ = supervisor.Kill() // It may have just ended.
	return errors.Join(supervisor.Release(), m.awaitEnd(ctx, cutWait), endStrays(ctx, m.dir))
}

// supervisor returns the process that holds the life. It opens the process's handle
// first and then checks the holder again, so the handle cannot be of a later process
// with the same number.
func (m *Machine) supervisor() (*os.Process, error) {
	// Checked first: a machine whose state cannot be read may be removed too.
	if alive, err := m.alive(); err != nil {
		return nil, err
	} else if !alive {
		return nil, ErrNotRunning
	}
	s, err := m.state()
	if err != nil {
		return nil, err
	}
	if s.Phase.over() { // It may also be about to begin or end, which looks the same.
		return nil, ErrNotRunning
	}
	p, err := os.FindProcess(s.PID)
	if err != nil {
		return nil, err
	}
	alive, err := m.alive()
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

// Await waits until the machine has no supervisor, and returns how it ended. The error
// is ErrNotFound if the machine was removed meanwhile and its life file holds no final
// state.
func (m *Machine) Await(ctx context.Context) (s State, err error) {
	last, err := awaitEnd(ctx, m.file(lifeName))
	if err != nil {
		return s, m.wrap(err)
	}
	if _, gone := os.Lstat(m.dir); errors.Is(gone, os.ErrNotExist) {
		if json.Unmarshal(last, &s) != nil { // It was killed before it wrote its state.
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

// Remove removes a machine without a supervisor, with its files and leftover processes.
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

// discard removes the directory. The caller holds the life.
func (m *Machine) discard() error {
	return m.store.change(func() error { return m.store.discard(m.dir) })
}

// exitStatus returns a command's status in a shell's form.
func exitStatus(e *client.ExitError) int {
	const signaled = 128
	if e.Signaled {
		return signaled + int(e.Signal)
	}
	return e.ExitCode()
}
