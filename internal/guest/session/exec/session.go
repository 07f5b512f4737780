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
	kept   *Kept // nil for a command that belongs to its client.

	mu      sync.Mutex
	child   *proc.Child // nil before it runs and after it has ended.
	master  *os.File    // The terminal; nil without one.
	pending []early     // Signals that came before the child ran.
	size    *wire.ExecResize
	output  outputHold
	over    bool
	deaf    bool // Its input has overflowed, and the host was told.
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

// unsent replaces a message that cannot be encoded. Only a text can be too long, and
// only a failure has a text.
func unsent(why error) wire.Message {
	return &wire.ExecFailed{Kind: wire.FailureOther, Message: why.Error()}
}

func (e *Session) guarded(f func()) {
	e.Guard(f, func(why string) {
		e.Signal(killSignal)
		e.finish(&wire.ExecFailed{Kind: wire.FailureOther, Message: "exec session error: " + why})
	})
}

// run does the whole session, from its request to its terminal frame.
func (e *Session) run(req *wire.ExecRequest) {
	reportSignal, reportUsage := req.ReportSignal || e.kept != nil, req.ReportUsage // Do not keep the request, up to a whole frame, while the command runs.
	endGrace := e.Host.StartGrace()
	c, err := e.start(req)
	if err != nil {
		endGrace()
		e.finish(failed(req, err))
		return
	}
	e.started(uint32(c.child.PID()))
	heard := e.listen(c.outputs, endGrace)
	fed := make(chan struct{})
	e.Host.Go(func() {
		defer close(fed)
		e.guarded(func() { e.feed(c.input) })
	})
	e.running(c)
	status := c.child.Status()
	e.in.Settle() // Give the credit back at once: the input may have another sender now.
	endGrace()
	heard()
	e.in.Drop()
	_ = c.input.Close() // Ends a write that still waits for the command.
	<-fed
	last := exited(status, reportSignal)
	if reportUsage {
		last.Usage = usage(c.child)
	}
	c.child.Release()
	e.finish(last)
}

// listen starts to send the command's outputs, and calls endGrace if one is a flood. The
// caller calls heard after the command's end: it waits for the end of the outputs and
// closes them.
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
			e.guarded(func() { e.pump(o, t, endGrace) })
			if open.Add(-1) == 0 {
				e.runner.Procs.Look() // In most cases the command has ended with its outputs.
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

// started tells the client, or the clients, that the command runs.
func (e *Session) started(pid uint32) {
	if e.kept != nil {
		e.kept.runs(pid)
		return
	}
	e.WriteNow(&wire.ExecStarted{PID: pid})
}

// pump moves an output until it ends.
func (e *Session) pump(o output, t *tail, endGrace func()) {
	if e.kept != nil {
		e.kept.collect(t, o.kind, endGrace)
		return
	}
	p := session.NewPump(e.Base, o.kind, t, &e.Host.Activity.Output)
	p.Grow, p.Flooded = o.from.Grow, endGrace
	_ = p.Run() // io.EOF, or EIO from a terminal that hung up.
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

// A command has the parts of a started command.
type command struct {
	child   *proc.Child
	master  *os.File
	input   input
	outputs []output
}

// An input is written to a command: a pipe or a terminal.
type input interface {
	io.WriteCloser
	syscall.Conn
}

type output struct {
	file *os.File
	from *sys.Reader // Reads the file.
	kind wire.Type
}

// running makes the command known to the session's methods and applies the size and the
// signals that came during the start.
func (e *Session) running(c *command) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.child, e.master = c.child, c.master
	if e.size != nil && e.master != nil {
		_ = sys.Resize(e.master, e.size.Rows, e.size.Cols) // As in resize.
	}
	for _, s := range e.pending {
		send(e.child, s.number, s.tree)
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
	if e.kept != nil {
		e.runner.finishKept(e.kept, last)
	}
	e.End(e, last)
}

// tell sends a message about the input, without waiting.
func (e *Session) tell(m wire.Message) {
	if e.kept != nil {
		e.kept.tell(m)
		return
	}
	e.Put(m)
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
		return // The input or the command has ended: ignore the bytes.
	}
	e.mu.Lock()
	first := !e.deaf
	e.deaf = true
	e.mu.Unlock()
	// Input was lost. End the stream here: a hole in it would be worse.
	e.in.End()
	if first {
		if errors.Is(err, mux.ErrFull) {
			err = fmt.Errorf("the command left more than %d bytes of input unread: %w", session.MaxInput, syscall.ENOSPC)
		}
		e.tell(stdinError(err))
	}
}

// Message handles a signal or a new size of the terminal.
func (e *Session) Message(m wire.Message) {
	switch m := m.(type) {
	case *wire.ExecSignal:
		e.signal(int(m.Signal), m.Tree)
		e.hold(m.Output)
	case *wire.ExecResize:
		e.resize(m)
	}
}

// Signal sends a signal to the command's process group. Numbers outside 1 to 31 are
// ignored.
func (e *Session) Signal(number int) { e.signal(number, false) }

// signal is Signal, or one to all that descends from the command.
func (e *Session) signal(number int, tree bool) {
	const most = 31 // The last standard signal. Hosts send no real-time signals.
	if number < 1 || number > most {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.child != nil:
		send(e.child, number, tree)
	case !e.over && len(e.pending) < most:
		e.pending = append(e.pending, early{number, tree})
	}
}

// An early signal came before the command ran.
type early struct {
	number int
	tree   bool
}

// send sends a signal. An error means that the command has ended.
func send(c *proc.Child, number int, tree bool) {
	if tree {
		_ = c.SignalTree(number)
		return
	}
	_ = c.Signal(number)
}

// resize gives the terminal a new size; without a terminal it does nothing.
func (e *Session) resize(size *wire.ExecResize) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.size = size
	if e.master != nil {
		_ = sys.Resize(e.master, size.Rows, size.Cols) // Fails only if the terminal has hung up.
	}
}

// hold stops the reading of the output, or lets it go on. No output is lost: it waits in
// the pipe, and the command waits with it.
func (e *Session) hold(f wire.OutputFlow) {
	switch f {
	case wire.OutputHold:
		e.output.set()
	case wire.OutputGo:
		e.output.end()
	}
}

// Detach disconnects the session from its client. Output is discarded from now on; the
// command runs until it ends.
func (e *Session) Detach() {
	e.Base.Detach()
	e.output.endForGood()
}

// EndInput ends the command's input after what has come.
func (e *Session) EndInput() {
	e.in.End()
	e.in.Settle() // Give the credit back at once: the sender of the input has gone.
}

// feed writes the input to the command until the input ends. A failed write is reported,
// and the session goes on. After EPIPE the rest of the input is dropped, so that the host
// gets one error however much is waiting; a host whose credit bounds that gets one for each frame.
func (e *Session) feed(w input) {
	narrow := func() {}
	defer func() { narrow() }()
	for first := true; ; {
		p, err := e.in.Next()
		if errors.Is(err, io.EOF) && !e.tty {
			_ = w.Close() // The command reads the end of its input.
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, mux.ErrClosed) {
				e.refuse(stdinError(err))
			}
			return
		}
		if first && len(p) >= wideAbove && e.in.Waiting() > 0 && !e.Host.Credit.Exact() {
			first, narrow = false, e.runner.widen(w)
		}
		_, err = w.Write(p)
		e.in.Took(len(p))
		switch {
		case err == nil:
			e.Host.Spares.Give(p)
		case !errors.Is(err, os.ErrClosed):
			e.refuse(stdinError(err))
			if errors.Is(err, syscall.EPIPE) && !e.Host.Credit.Exact() {
				e.in.Drop()
			}
		}
	}
}

// refuse sends a message about the input, and waits for room.
func (e *Session) refuse(m wire.Message) {
	if e.kept != nil {
		e.kept.tell(m)
		return
	}
	e.Send(m)
}

func stdinError(err error) *wire.ExecStdinError {
	m := &wire.ExecStdinError{Message: "io error: " + err.Error()}
	m.Errno, m.ErrnoName = errnoFields(err, stdinName)
	if errors.Is(err, session.ErrCredit) {
		m.Message = err.Error()
	} else if errno, ok := errors.AsType[syscall.Errno](err); ok {
		m.Message = "io error: " + session.Describe(errno)
	}
	return m
}
