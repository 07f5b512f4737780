package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	// endWait is for a supervisor to end its machine: what the machine may take
	// (16 s), and its helpers after it (5 s at most, each).
	endWait = 30 * time.Second
	// outputBytes is what is kept of a command's output: a day of a chatty service.
	outputBytes = 64 << 20
	// commandGrace is for a command to end after SIGTERM, as long as containers'
	// tools give; the machine's end kills what is left.
	commandGrace = 5 * time.Second

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
	Error string   `json:"error,omitempty"`
	Notes []string `json:"notes,omitempty"`
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

// Supervise is a supervisor's life in the background: it brings the machine up,
// says so to Launch, and ends it when stop ends, or its command, or the machine.
func (m *Machine) Supervise(stop context.Context, log func(line string)) error {
	launcher := os.NewFile(reportFD, "launcher")
	if d := m.record.Timeout; d > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(stop, d)
		defer cancel()
	}
	l, err := m.Up(stop, log)
	var r report
	if err != nil {
		r.Error = err.Error()
	} else {
		r.Notes = Notes(l.Machine)
	}
	// A launcher that is gone needs no report.
	_ = json.NewEncoder(launcher).Encode(r)
	_ = launcher.Close()
	if err != nil {
		return err
	}
	return l.supervise(stop)
}

func (l *Live) supervise(stop context.Context) error {
	var failed error
	if len(l.machine.record.Command) > 0 {
		failed = l.run(stop)
	} else {
		select {
		case <-stop.Done():
		case <-l.Done():
		}
	}
	if errors.Is(context.Cause(stop), errCut) {
		return l.Cut()
	}
	l.failed = failed
	return l.Down(context.Background())
}

// run runs the machine's command to its end.
func (l *Live) run(ctx context.Context) error {
	out, err := os.OpenFile(l.machine.Output(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	argv := l.machine.record.Command
	cmd := l.Client().CommandContext(ctx, argv[0], argv[1:]...)
	bounded := &boundedWriter{to: out, left: outputBytes}
	cmd.Stdout, cmd.Stderr = bounded, bounded
	cmd.Cancel = func() error { return cmd.Signal(int(syscall.SIGTERM)) }
	cmd.WaitDelay = commandGrace
	err = cmd.Run()
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
	return errors.Join(err, out.Close())
}

// A boundedWriter keeps the beginning of what is written.
type boundedWriter struct {
	to   io.Writer
	left int
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	if n > 0 {
		if _, err := w.to.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// CutCause is the cause for which the context of Supervise ends when the machine
// is not to be asked.
func CutCause() error { return errCut }

// Stop asks a running machine to end, and waits until it has.
func (m *Machine) Stop(ctx context.Context) error { return m.endBy(ctx, SignalStop, endWait) }

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
	err = m.awaitEnd(ctx, wait)
	if !errors.Is(err, errSlow) {
		return err
	}
	_ = supervisor.Kill() // It may have ended this moment.
	return errors.Join(m.awaitEnd(ctx, cutWait), endStrays(ctx, m.dir))
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
		return signaled + e.Signal
	}
	return e.ExitCode()
}
