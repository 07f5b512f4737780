package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/agentd-go/agentd/internal/flow"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// killSignal cannot be caught (SIGKILL).
const killSignal = 9

// killedCode is the exit code of a command that a signal ended.
const killedCode = -1

// An Exec is one command. Its methods do not wait.
type Exec struct {
	*base
	tty bool
	in  *mux.Inbox

	mu      sync.Mutex
	child   *proc.Child // nil until it runs and again when it is over.
	master  *os.File    // The terminal; nil without one.
	pending []int       // Signals that came before the child ran.
	size    *wire.ExecResize
	gate    gate // Of the output.
	over    bool
	deaf    bool // Its input has overflowed, which was said once.
}

// StartExec begins a command and returns at once.
func (h *Host) StartExec(id uint32, req *wire.ExecRequest, ending Ending) *Exec {
	e := &Exec{
		base: h.base(id, ending, unsentExec, &h.Activity.commands),
		tty:  req.TTY,
		in:   h.inbox(stdinMemory),
	}
	h.crew.do(func() { e.guarded(func() { e.run(req) }) })
	return e
}

// unsentExec stands for a message that cannot be sent: only a text can be too
// long, and only a failure has one.
func unsentExec(why error) wire.Message {
	return &wire.ExecFailed{Kind: wire.FailureOther, Message: why.Error()}
}

func (e *Exec) guarded(f func()) {
	e.guard(f, func(why string) {
		e.Signal(killSignal)
		e.finish(&wire.ExecFailed{Kind: wire.FailureOther, Message: "exec session error: " + why})
	})
}

// run is the session from its request to its terminal frame.
func (e *Exec) run(req *wire.ExecRequest) {
	reportSignal := req.ReportSignal // The request, up to a whole frame, is not kept while the command runs.
	grown := e.host.turns.young.begin()
	c, err := e.start(req)
	if err != nil {
		grown()
		e.finish(failed(req, err))
		return
	}
	e.say(&wire.ExecStarted{PID: uint32(c.child.PID())})
	heard := e.listen(c.outputs, grown)
	fed := make(chan struct{})
	e.host.crew.do(func() {
		defer close(fed)
		e.guarded(func() { e.feed(c.input) })
	})
	e.running(c)
	status := c.child.Status()
	grown()
	heard()
	e.in.Drop()
	_ = c.input.Close() // Ends a write that still waits for the command.
	<-fed
	c.child.Release()
	e.finish(exited(status, reportSignal))
}

// listen sends what the command says, and calls grown if that is much. When it has
// ended, heard waits for the end of that too, and closes the outputs.
func (e *Exec) listen(outputs []output, grown func()) (heard func()) {
	var all sync.WaitGroup
	var open atomic.Int32
	open.Store(int32(len(outputs)))
	tails := make([]*tail, len(outputs))
	for i, o := range outputs {
		t := &tail{file: o.file, from: o.from, terminal: e.tty, gate: &e.gate}
		tails[i] = t
		all.Add(1)
		e.host.crew.do(func() {
			defer all.Done()
			e.guarded(func() {
				p := &pump{base: e.base, kind: o.kind, from: t, to: flow.SendMessages(e.host.Generation, o.kind, nil), count: &e.host.Activity.output, grow: o.from.Grow, grown: grown}
				_ = p.run() // io.EOF, or EIO from a terminal that hung up.
			})
			if open.Add(-1) == 0 {
				e.host.Procs.Look() // Mostly the command has ended with its outputs.
			}
		})
	}
	return func() {
		for _, t := range tails {
			t.leaderEnded()
		}
		all.Wait()
		for _, t := range tails {
			t.close(&e.host.left)
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
func (e *Exec) running(c *command) {
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
func (e *Exec) finish(last wire.Message) {
	e.mu.Lock()
	late := e.over
	e.over, e.child, e.master = true, nil, nil
	e.mu.Unlock()
	if late {
		return
	}
	e.in.Drop()
	e.end(e, last)
}

// Stdin takes input for the command; no bytes at all are its end.
func (e *Exec) Stdin(data []byte) {
	if len(data) == 0 {
		if !e.tty { // A terminal's end of input is a character.
			e.in.End()
		}
		return
	}
	err := e.in.Push(data)
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
			err = fmt.Errorf("the command left more than %d bytes of input unread: %w", stdinMemory+stdinStored, syscall.ENOSPC)
		}
		e.put(stdinError(err))
	}
}

// Signal sends a signal to the command's group. Numbers other than 1 to 31 do
// nothing.
func (e *Exec) Signal(number int) {
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

// Resize gives the terminal a new size; without a terminal it does nothing.
func (e *Exec) Resize(size *wire.ExecResize) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.size = size
	if e.master != nil {
		_ = sys.Resize(e.master, size.Rows, size.Cols) // A terminal that hung up has none.
	}
}

// Flow holds the output back, or lets it go on. Nothing of it is lost: what is held
// back waits in the pipe, and the command with it.
func (e *Exec) Flow(f wire.OutputFlow) {
	switch f {
	case wire.OutputHold:
		e.gate.shut()
	case wire.OutputGo:
		e.gate.open()
	}
}

// Detach forgets the host's side: output goes nowhere from now on, the command
// goes on until it ends.
func (e *Exec) Detach() {
	e.detach()
	e.gate.openForEver()
}

// feed writes the input to the command until it ends. A write that fails is
// reported and the session goes on; behind a closed pipe it goes on without
// input, which is said once however much is waiting.
func (e *Exec) feed(w *os.File) {
	narrow := func() {}
	defer func() { narrow() }()
	for first := true; ; {
		p, err := e.in.Next()
		if errors.Is(err, io.EOF) && !e.tty {
			_ = w.Close() // The command reads the end of its input.
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, mux.ErrClosed) {
				e.send(stdinError(err))
			}
			return
		}
		if first && len(p) >= wideAbove && e.in.Waiting() > 0 {
			first, narrow = false, e.host.widen(w)
		}
		_, err = w.Write(p)
		switch {
		case err == nil:
			e.host.Spares.Give(p)
		case !errors.Is(err, os.ErrClosed):
			e.send(stdinError(err))
			if errors.Is(err, syscall.EPIPE) {
				e.in.Drop()
			}
		}
	}
}

const (
	// widePipe is what the pipe to a command has room for whose host is faster than it
	// is: they take turns less often.
	widePipe = 256 << 10

	// maxWide bounds their number, since pipes are memory of the kernel: 4 MiB.
	maxWide = 16

	// wideAbove tells a flood of input from what somebody types.
	wideAbove = 16 << 10
)

// widen gives the pipe to a command more room, if not too many have it. narrow says
// that the pipe is closed.
func (h *Host) widen(w *os.File) (narrow func()) {
	if h.wide.Add(1) <= maxWide {
		sys.GrowPipe(w, widePipe)
	}
	return func() { h.wide.Add(-1) }
}

func stdinError(err error) *wire.ExecStdinError {
	m := &wire.ExecStdinError{Message: "io error: " + err.Error()}
	m.Errno, m.ErrnoName = errnoFields(err, stdinName)
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		m.Message = "io error: " + describe(errno)
	}
	return m
}
