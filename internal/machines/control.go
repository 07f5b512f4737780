package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/client"
)

const (
	// controlBytes bounds a request. Its largest part is a command's arguments and
	// environment, for which execve(2) allows 2 MiB.
	controlBytes = 4 << 20
	// controlWait is how long a supervisor may take to answer: the start of a command
	// in a slow guest.
	controlWait = 30 * time.Second
	// controls bounds the requests that are served at once.
	controls = 32
	// DefaultGrace is how long a command may run after its stop signal before it is
	// killed; container tools give it the same time.
	DefaultGrace = 10 * time.Second
)

// Words of a request.
const (
	controlStop   = "stop"
	controlSignal = "signal"
	controlExec   = "exec"
	controlGrow   = "grow"
)

// A request is a message to a supervisor's control socket.
type request struct {
	Do     string         `json:"do"`
	Signal syscall.Signal `json:"signal,omitempty"`   // For stop; 0 means the machine's own.
	Grace  *time.Duration `json:"grace_ns,omitempty"` // For stop; nil means the machine's own, less than 0 no bound.
	Exec   *Detached      `json:"exec,omitempty"`
	Size   int64          `json:"size,omitempty"` // For grow, in bytes.
	Dir    string         `json:"dir,omitempty"`  // For snapshot: the directory to make.
}

// saves reports whether the request is about the machine's memory.
func (q request) saves() bool {
	return q.Do == controlPause || q.Do == controlResume || q.Do == controlSnapshot
}

// wait is how long the supervisor may take.
func (q request) wait() time.Duration {
	if q.saves() {
		return savingWait
	}
	return controlWait
}

// An answer is empty if the request was carried out.
type answer struct {
	Error  string `json:"error,omitempty"`
	Status int    `json:"status,omitempty"` // Exit status for a command that could not be started.
}

// A Detached is a command that runs at most as long as the machine. Its output is
// discarded.
type Detached struct {
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	User string   `json:"user,omitempty"`
	Dir  string   `json:"dir,omitempty"`

	Resources client.Resources `json:"resources,omitzero"`
}

// A control is the supervisor's side of the control socket.
type control struct {
	mu     sync.Mutex
	signal func(sig syscall.Signal) error // Signals the machine's command; nil while there is none.
	stop   func()                         // Stops the machine; nil while that is impossible.
	with   request                        // The last request to stop.
	client *client.Client                 // nil while the machine does not run.
	grow   func(size int64) error         // Makes the root's disk larger; nil while the machine does not run.
	live   *Live                          // nil while the machine does not run.
}

var (
	errNoCommand  = errors.New("it has no command that takes signals")
	errCannotStop = errors.New("it cannot be stopped now")
)

// serve answers requests until the listener is closed.
func (c *control) serve(l net.Listener) {
	room := make(chan struct{}, controls)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		room <- struct{}{}
		go func() {
			defer func() { <-room }()
			c.answer(conn)
		}()
	}
}

func (c *control) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }() // The answer is written, or the client has left.
	_ = conn.SetDeadline(time.Now().Add(controlWait))
	var q request
	if json.NewDecoder(io.LimitReader(conn, controlBytes)).Decode(&q) != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(q.wait()))
	var a answer
	if err := c.do(q); err != nil {
		a.Error = err.Error()
		if refused, ok := errors.AsType[*CommandError](err); ok {
			a.Status = refused.Status
		}
	}
	_ = json.NewEncoder(conn).Encode(a)
}

func (c *control) do(q request) error {
	c.mu.Lock()
	stop, signal, in, grow, live := c.stop, c.signal, c.client, c.grow, c.live
	if q.Do == controlStop && stop != nil {
		c.with = q
	}
	c.mu.Unlock() // Serve requests in parallel.
	switch {
	case q.Do == controlStop && stop == nil:
		return errCannotStop
	case q.Do == controlStop:
		stop()
		return nil
	case q.Do == controlSignal && signal == nil:
		return errNoCommand
	case q.Do == controlSignal:
		if err := signal(q.Signal); !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return errNoCommand
	case q.Do == controlExec && q.Exec != nil && len(q.Exec.Args) > 0 && in != nil:
		return detach(in, q.Exec)
	case q.Do == controlGrow && grow != nil:
		return grow(q.Size)
	case q.saves() && live != nil:
		ctx, cancel := context.WithTimeout(context.Background(), savingWait) // Also if the asker has left.
		defer cancel()
		return live.saves(ctx, q)
	}
	return fmt.Errorf("supervisor: cannot do %q now", q.Do)
}

// detach starts a command and does not wait for it.
func detach(in *client.Client, d *Detached) error {
	cmd := in.Command(d.Args[0], d.Args[1:]...)
	cmd.AddEnv, cmd.User, cmd.Dir, cmd.Resources = d.Env, d.User, d.Dir, d.Resources
	if err := cmd.Start(); err != nil {
		return StartError(d.Args[0], err)
	}
	go func() { _ = cmd.Wait() }() // Its status is not kept.
	return nil
}

// stopWords returns the signal and the grace period of a stop: those of the last
// request, else those of the record, else SIGTERM and DefaultGrace. A returned grace of
// 0 means no bound. If no grace is wanted, the signal is SIGKILL.
func (c *control) stopWords(r Record) (signal syscall.Signal, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	signal, grace = syscall.SIGTERM, DefaultGrace
	if n, err := ParseSignal(r.StopSignal); err == nil {
		signal = n
	}
	if r.StopTimeout != nil {
		grace = *r.StopTimeout
	}
	if c.with.Signal != 0 {
		signal = c.with.Signal
	}
	if c.with.Grace != nil {
		grace = *c.with.Grace
	}
	switch {
	case grace < 0:
		return signal, 0
	case grace == 0:
		return syscall.SIGKILL, DefaultGrace
	}
	return signal, grace
}

func (c *control) set(change func(c *control)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

// ask sends a request to the machine's supervisor.
func (m *Machine) ask(ctx context.Context, q request) error {
	ctx, cancel := context.WithTimeout(ctx, q.wait())
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", m.file(controlName))
	if err != nil {
		return fmt.Errorf("%w: %w", errNoControl, err)
	}
	defer func() { _ = conn.Close() }() // A connection carries one answer.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	var a answer
	if err = json.NewEncoder(conn).Encode(q); err == nil {
		err = json.NewDecoder(conn).Decode(&a)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNoControl, err)
	case a.Status != 0:
		return &CommandError{a.Status, a.Error}
	case a.Error != "":
		return errors.New(a.Error)
	}
	return nil
}

// errNoControl says that the supervisor does not take requests: it is starting, ending,
// or of an older version.
var errNoControl = errors.New("its supervisor does not answer")

// Signal sends a signal, 1 to 31, to the command that the machine was started for.
func (m *Machine) Signal(ctx context.Context, sig syscall.Signal) error {
	return m.askRunning(ctx, request{Do: controlSignal, Signal: sig})
}

// Detach starts a command that keeps running after the caller has ended. The error is a
// *CommandError if the command cannot be started.
func (m *Machine) Detach(ctx context.Context, d Detached) error {
	return m.askRunning(ctx, request{Do: controlExec, Exec: &d})
}

// Grow makes the disk of the machine's root as large as size, in bytes; see
// [sandbox.Machine.GrowRoot].
func (m *Machine) Grow(ctx context.Context, size int64) error {
	return m.askRunning(ctx, request{Do: controlGrow, Size: size})
}

func (m *Machine) askRunning(ctx context.Context, q request) error {
	if alive, err := m.alive(); err != nil {
		return m.wrap(err)
	} else if !alive {
		return m.wrap(ErrNotRunning)
	}
	err := m.ask(ctx, q)
	if _, refused := errors.AsType[*CommandError](err); refused {
		return err
	}
	return m.wrap(err)
}
