package exec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// killSignal cannot be caught (SIGKILL).
const killSignal = 9

// killedCode is the exit code of a command that a signal ended.
const killedCode = -1

// A Session is one command. Its methods do not wait.
type Session struct {
	*session.Base
	runner *Runner
	tty    bool
	in     *mux.Inbox

	mu      sync.Mutex
	child   *proc.Child // nil until it runs and again when it is over.
	master  *os.File    // The terminal; nil without one.
	pending []int       // Signals that came before the child ran.
	size    *wire.ExecResize
	output  outputHold
	over    bool
	deaf    bool // Its input has overflowed, which was said once.
}

// Start begins a command and returns at once.
func (r *Runner) Start(id uint32, req *wire.ExecRequest, ending session.Ending) *Session {
	h := r.Host
	e := &Session{
		Base:   h.NewBase(id, ending, unsent, &h.Activity.Commands),
		runner: r,
		tty:    req.TTY,
		in:     h.Inbox(session.InputMemory),
	}
	h.Go(func() { e.guarded(func() { e.run(req) }) })
	return e
}

// unsent stands for a message that cannot be sent: only a text can be too
// long, and only a failure has one.
func unsent(why error) wire.Message {
	return &wire.ExecFailed{Kind: wire.FailureOther, Message: why.Error()}
}

func (e *Session) guarded(f func()) {
	e.Guard(f, func(why string) {
		e.Signal(killSignal)
		e.finish(&wire.ExecFailed{Kind: wire.FailureOther, Message: "exec session error: " + why})
	})
}

// run is the session from its request to its terminal frame.
func (e *Session) run(req *wire.ExecRequest) {
	reportSignal := req.ReportSignal // The request, up to a whole frame, is not kept while the command runs.
	endGrace := e.Host.StartGrace()
	c, err := e.start(req)
	if err != nil {
		endGrace()
		e.finish(failed(req, err))
		return
	}
	e.SendNow(&wire.ExecStarted{PID: uint32(c.child.PID())})
	heard := e.listen(c.outputs, endGrace)
	fed := make(chan struct{})
	e.Host.Go(func() {
		defer close(fed)
		e.guarded(func() { e.feed(c.input) })
	})
	e.running(c)
	status := c.child.Status()
	e.in.Settle() // Whoever has the input now is not waited for.
	endGrace()
	heard()
	e.in.Drop()
	_ = c.input.Close() // Ends a write that still waits for the command.
	<-fed
	c.child.Release()
	e.finish(exited(status, reportSignal))
}

// listen sends what the command says, and calls endGrace if that is much. When it has
// ended, heard waits for the end of that too, and closes the outputs.
func (e *Session) listen(outputs []output, endGrace func()) (heard func()) {
	var all sync.WaitGroup
	var open atomic.Int32
	open.Store(int32(len(outputs)))
	tails := make([]*tail, len(outputs))
	for i, o := range outputs {
		t := &tail{file: o.file, from: o.from, terminal: e.tty, hold: &e.output}
		tails[i] = t
		all.Add(1)
		e.Host.Go(func() {
			defer all.Done()
			e.guarded(func() {
				p := session.NewPump(e.Base, o.kind, t, &e.Host.Activity.Output)
				p.Grow, p.Flooded = o.from.Grow, endGrace
				_ = p.Run() // io.EOF, or EIO from a terminal that hung up.
			})
			if open.Add(-1) == 0 {
				e.runner.Procs.Look() // Mostly the command has ended with its outputs.
			}
		})
	}
	return func() {
		for _, t := range tails {
			t.leaderEnded()
		}
		all.Wait()
		for _, t := range tails {
			t.close(&e.runner.left)
		}
	}
}

func exited(s proc.Status, reportSignal bool) *wire.ExecExited {
	if s.Signal == 0 {
		return &wire.ExecExited{Code: int32(s.Code)}
	}
	m := &wire.ExecExited{Code: killedCode}
	if number := int32(s.Signal); reportSignal {
		m.Signal = &number
	}
	return m
}

// command is what a started command consists of.
type command struct {
	child   *proc.Child
	master  *os.File
	input   *os.File
	outputs []output
}

type output struct {
	file *os.File
	from *sys.Reader // What reads it.
	kind wire.Type
}

// running makes the command known to the session's methods and gives it what
// came in the meantime.
func (e *Session) running(c *command) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.child, e.master = c.child, c.master
	if e.size != nil && e.master != nil {
		_ = sys.Resize(e.master, e.size.Rows, e.size.Cols) // As late as any resize.
	}
	for _, number := range e.pending {
		_ = e.child.Signal(number)
	}
	e.pending = nil
}

// finish ends the session with its one terminal frame; only the first call does.
func (e *Session) finish(last wire.Message) {
	e.mu.Lock()
	late := e.over
	e.over, e.child, e.master = true, nil, nil
	e.mu.Unlock()
	if late {
		return
	}
	e.in.Drop()
	e.End(e, last)
}

// Data takes input for the command; no bytes at all are its end.
func (e *Session) Data(t wire.Type, data []byte, c session.Charge) {
	if t != wire.TypeExecStdin || len(data) == 0 {
		c.Refund()
	}
	if t != wire.TypeExecStdin {
		return
	}
	if len(data) == 0 {
		if !e.tty { // A terminal's end of input is a character.
			e.in.End()
		}
		return
	}
	err := session.ErrCredit
	if c.Over {
		c.Refund()
	} else {
		err = e.in.PushFor(data, c.Payer())
	}
	if err == nil {
		e.in.Pace()
		return
	}
	if errors.Is(err, mux.ErrClosed) {
		return // Input behind its end, or for a command that is over, is nobody's.
	}
	e.mu.Lock()
	first := !e.deaf
	e.deaf = true
	e.mu.Unlock()
	// A hole in the stream would be worse than its end: nothing follows.
	e.in.End()
	if first {
		if errors.Is(err, mux.ErrFull) {
			err = fmt.Errorf("the command left more than %d bytes of input unread: %w", session.MaxInput, syscall.ENOSPC)
		}
		e.Put(stdinError(err))
	}
}

// Message acts on a signal or a new size of the terminal.
func (e *Session) Message(m wire.Message) {
	switch m := m.(type) {
	case *wire.ExecSignal:
		e.Signal(int(m.Signal))
		e.hold(m.Output)
	case *wire.ExecResize:
		e.resize(m)
	}
}

// Signal sends a signal to the command's group. Numbers other than 1 to 31 do
// nothing.
func (e *Session) Signal(number int) {
	const most = 31 // The signals with names; a host has no business with others.
	if number < 1 || number > most {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.child != nil:
		_ = e.child.Signal(number) // A command that is gone has nothing to hear.
	case !e.over && len(e.pending) < most:
		e.pending = append(e.pending, number)
	}
}

// resize gives the terminal a new size; without a terminal it does nothing.
func (e *Session) resize(size *wire.ExecResize) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.size = size
	if e.master != nil {
		_ = sys.Resize(e.master, size.Rows, size.Cols) // A terminal that hung up has none.
	}
}

// hold holds the output back, or lets it go on. Nothing of it is lost: what is held
// back waits in the pipe, and the command with it.
func (e *Session) hold(f wire.OutputFlow) {
	switch f {
	case wire.OutputHold:
		e.output.set()
	case wire.OutputGo:
		e.output.end()
	}
}

// Detach forgets the host's side: output goes nowhere from now on, the command
// goes on until it ends.
func (e *Session) Detach() {
	e.Base.Detach()
	e.output.endForGood()
}

// EndInput ends the command's input after what has come.
func (e *Session) EndInput() {
	e.in.End()
	e.in.Settle() // Nobody is waited for who would be told.
}

// feed writes the input to the command until it ends. A write that fails is
// reported and the session goes on; behind a closed pipe it goes on without
// input, which is said once however much is waiting.
func (e *Session) feed(w *os.File) {
	narrow := func() {}
	defer func() { narrow() }()
	for first := true; ; {
		p, err := e.in.Next()
		if errors.Is(err, io.EOF) && !e.tty {
			_ = w.Close() // The command reads the end of its input.
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, mux.ErrClosed) {
				e.Send(stdinError(err))
			}
			return
		}
		if first && len(p) >= wideAbove && e.in.Waiting() > 0 {
			first, narrow = false, e.runner.widen(w)
		}
		_, err = w.Write(p)
		e.in.Took(len(p))
		switch {
		case err == nil:
			e.Host.Spares.Give(p)
		case !errors.Is(err, os.ErrClosed):
			e.Send(stdinError(err))
			if errors.Is(err, syscall.EPIPE) {
				e.in.Drop()
			}
		}
	}
}

func stdinError(err error) *wire.ExecStdinError {
	m := &wire.ExecStdinError{Message: "io error: " + err.Error()}
	m.Errno, m.ErrnoName = errnoFields(err, stdinName)
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		m.Message = "io error: " + session.Describe(errno)
	}
	return m
}
