package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"syscall"

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
	host   *Host
	id     uint32
	tty    bool
	out    *mux.Outbox
	in     *mux.Inbox
	ending Ending
	done   chan struct{}

	mu      sync.Mutex
	child   *proc.Child // nil until it runs and again when it is over.
	master  *os.File    // The terminal; nil without one.
	pending []int       // Signals that came before the child ran.
	size    *wire.ExecResize
	over    bool
	deaf    bool // Its input has overflowed, which was said once.
}

// An Ending is what the owner of a session does at its end.
type Ending struct {
	Forget  func(*Exec) // The terminal frame is about to be queued: the id is free.
	Release func(*Exec) // It has left, and with it all that the session held.
}

// StartExec begins a command and returns at once.
func (h *Host) StartExec(id uint32, req *wire.ExecRequest, ending Ending) *Exec {
	e := &Exec{
		host:   h,
		id:     id,
		tty:    req.TTY,
		out:    h.Writer.Outbox(0),
		ending: ending,
		done:   make(chan struct{}),
		in: mux.NewInbox(mux.InboxConfig{
			Memory: stdinMemory, Budget: h.Input, Storage: spill, Stored: stdinStored,
		}),
	}
	go e.guard(func() { e.run(req) })
	return e
}

// guard runs one of the session's goroutines: a fault of ours in it ends the
// session and not the machine.
func (e *Exec) guard(f func()) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		logf("session %d: %v\n%s", e.id, fault, debug.Stack())
		e.Signal(killSignal)
		e.finish(&wire.ExecFailed{Kind: wire.FailureOther, Message: fmt.Sprintf("exec session error: fault in the agent: %v", fault)})
	}()
	f()
}

// run is the session from its request to its terminal frame.
func (e *Exec) run(req *wire.ExecRequest) {
	reportSignal := req.ReportSignal // The request, up to a whole frame, is not kept while the command runs.
	c, err := e.start(req)
	if err != nil {
		e.finish(failed(req, err))
		return
	}
	e.send(&wire.ExecStarted{PID: uint32(c.child.PID())})
	var outputs sync.WaitGroup
	for _, o := range c.outputs {
		outputs.Go(func() { e.guard(func() { e.pump(o) }) })
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		e.guard(func() { e.feed(c.input) })
	}()
	e.running(c)
	outputs.Wait()
	status := c.child.Status()
	e.in.Drop()
	_ = c.input.Close() // Ends a write that still waits for the command.
	<-fed
	for _, o := range c.outputs {
		_ = o.file.Close()
	}
	c.child.Release()
	e.finish(exited(status, reportSignal))
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
	e.ending.Forget(e)
	e.put(last)
	e.out.Close()
	close(e.done)
	e.out.Drain()
	e.ending.Release(e)
}

// Done is closed when the last frame has been queued.
func (e *Exec) Done() <-chan struct{} { return e.done }

// Stdin takes input for the command; no bytes at all are its end.
func (e *Exec) Stdin(data []byte) {
	if len(data) == 0 {
		if !e.tty { // A terminal's end of input is a character.
			e.in.End()
		}
		return
	}
	err := e.in.Push(data)
	if err == nil || errors.Is(err, mux.ErrClosed) {
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

// Detach forgets the host's side: output goes nowhere from now on, the command
// goes on until it ends.
func (e *Exec) Detach() { e.out.Discard() }

// send queues a message and waits for room.
func (e *Exec) send(m wire.Message) { e.queue(m, e.out.Send) }

// put queues a message without waiting.
func (e *Exec) put(m wire.Message) { e.queue(m, e.out.Put) }

func (e *Exec) queue(m wire.Message, to func([]byte) error) {
	b, err := wire.AppendFrame(nil, e.host.Generation, e.id, m)
	if err != nil {
		// Only a text can be too long, and only a failure has one.
		b, err = wire.AppendFrame(nil, e.host.Generation, e.id, &wire.ExecFailed{
			Kind: wire.FailureOther, Message: err.Error(),
		})
	}
	if err == nil && to(b) == nil { // A link or client that is gone needs no answer.
		e.host.Activity.Sent(m.Type())
	}
}

const (
	// minRead is the first read of an output: most commands say less.
	minRead = 4 << 10
	// maxRead is what a pipe holds by default (pipe(7)); a read cannot give more.
	maxRead = 64 << 10
)

// pump sends what the command writes, in frames as large as the command's
// writing makes them. It ends at the end of the output. While nobody takes the
// output any more it goes on reading, so that the command is not held up.
func (e *Exec) pump(o output) {
	size := minRead
	buf := make([]byte, wire.DataHead+size)
	for {
		n, err := o.file.Read(buf[wire.DataHead:])
		if n > 0 {
			frame := buf[:wire.DataHead+n]
			if n <= size/2 {
				frame = append(make([]byte, 0, len(frame)), frame...) // Keep the buffer, queue the bytes.
			} else {
				buf = nil
			}
			start := wire.PutDataHead(frame, e.host.Generation, e.id, o.kind, n)
			if e.out.Send(frame[start:]) == nil {
				e.host.Activity.Sent(o.kind)
				e.host.Activity.outputBytes(n)
			}
		}
		if err != nil {
			return // io.EOF, or EIO from a terminal that hung up.
		}
		if n == size {
			size = min(2*size, maxRead)
		} else if n <= size/4 {
			size = max(size/2, minRead)
		}
		if len(buf) != wire.DataHead+size {
			buf = make([]byte, wire.DataHead+size)
		}
	}
}

// feed writes the input to the command until it ends. A write that fails is
// reported and the session goes on; behind a closed pipe it goes on without
// input, which is said once however much is waiting.
func (e *Exec) feed(w *os.File) {
	for {
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
		if _, err := w.Write(p); err != nil && !errors.Is(err, os.ErrClosed) {
			e.send(stdinError(err))
			if errors.Is(err, syscall.EPIPE) {
				e.in.Drop()
			}
		}
	}
}

func stdinError(err error) *wire.ExecStdinError {
	m := &wire.ExecStdinError{Message: "io error: " + err.Error()}
	m.Errno, m.ErrnoName = errnoFields(err, stdinNames)
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		m.Message = "io error: " + describe(errno)
	}
	return m
}
