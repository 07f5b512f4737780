package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// sigkill is Linux's number: the guest's, whatever the host runs.
const sigkill = 9

// A process is one command as the link sees it.
//
//	requested --started--> running --exited--> ended
//	    `-------- failed, a bad frame, the link's end --------^
//
// Its id stays in use until the terminal frame, also after its user has given it up:
// frames that still come are discarded. A kept command of a [Reconnector] does not fail
// at the link's end: it gets a seat on the next link.
type process struct {
	path     string
	attached string // The name of the kept command that it attaches to; "" for a new one.

	at   atomic.Pointer[seat]
	back *comeback // How it goes on at the link's end; nil for a process that does not.

	stdin          *stream    // Of a StdinPipe; nil for any other input.
	stdout, stderr *stream    // nil: discarded. The same, if one writer takes both.
	kept           *keptState // Of a kept command; nil for others.
	labelled       bool       // One stream for both, in which each piece has a label; see label.

	started chan struct{} // Closed when the pid is known.
	done    chan struct{} // Closed when ended.

	mu       sync.Mutex
	running  bool
	over     bool
	killed   bool
	pid      int
	err      error // How it ended; see finish.
	usage    *Usage
	stdinErr error
}

// A seat is a process's place on one link.
type seat struct {
	client   *Client
	id       uint32
	attaches bool // Its first message attaches.
	started  bool // The agent has said that the command runs. The reading goroutine's.

	ctl *mux.Outbox // The request, signals, sizes: they overtake input.
	in  *mux.Outbox // Input; discarded as soon as the command cannot read it any more.
}

// exec asks for a command, whose streams the caller has filled in.
func (c *Client) exec(p *process, req wire.Message, path string) error {
	p.path = path
	p.started, p.done = make(chan struct{}), make(chan struct{})
	return p.sit(c, req)
}

// sit gives a process a place on a link, and sends its first message.
func (p *process) sit(c *Client, first wire.Message) error {
	s := &seat{client: c, ctl: c.writer.Outbox(0), in: c.writer.Outbox(0)}
	_, s.attaches = first.(*wire.KeptAttach)
	err := c.calls.add(func(id uint32) receiver {
		s.id = id
		p.at.Store(s)
		return p
	})
	if err != nil {
		return err
	}
	if err := s.send(first); err != nil {
		c.calls.remove(s.id, p)
		return err
	}
	return nil
}

// send queues a message and waits while the queue is full.
func (s *seat) send(m wire.Message) error {
	b, err := s.client.encode(s.id, m)
	if err != nil {
		return err
	}
	if err := s.ctl.Send(b); err != nil {
		return s.client.reason() // This outbox is never closed on its own.
	}
	return nil
}

// put queues a message without waiting. It fails only if the link has ended.
func (s *seat) put(m wire.Message) {
	if b, err := s.client.encode(s.id, m); err == nil {
		_ = s.ctl.Put(b)
	}
}

// receive takes one message; see receiver.
func (p *process) receive(e wire.Envelope) error {
	if e.Type == wire.TypeExecStdout {
		return p.output(p.stdout, e)
	}
	if e.Type == wire.TypeExecStderr {
		return p.output(p.stderr, e)
	}
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.ExecStarted:
		return p.start(m)
	case *wire.ExecStdinError:
		p.refuseStdin(m)
	case *wire.ExecFailed:
		if !p.back.startFailed(p, m) {
			p.finish(newStartError(p.path, m))
		}
	case *wire.ExecExited:
		return p.exit(m)
	default:
		return p.receiveKept(m)
	}
	return nil
}

func (p *process) output(to *stream, e wire.Envelope) error {
	data, err := wire.DataOf(e)
	if err != nil {
		return err
	}
	if !p.isRunning() {
		return errUnexpected
	}
	n := len(data)
	if to != nil && p.labelled {
		data = label(e.Type == wire.TypeExecStderr, data)
	}
	if to != nil {
		to.push(data)
	}
	p.acknowledge(e.Type == wire.TypeExecStderr, n)
	return nil
}

func (p *process) isRunning() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

func (p *process) start(m *wire.ExecStarted) error {
	s := p.at.Load()
	if s.started {
		return errUnexpected
	}
	if s.started = true; p.isRunning() {
		return p.restart(m)
	}
	if (m.Kept == nil) != (p.kept == nil) {
		return errUnexpected
	}
	if m.Kept != nil {
		p.kept.begin(m.Kept)
	}
	p.mu.Lock()
	late := p.over
	p.running, p.pid = true, int(m.PID)
	p.mu.Unlock()
	if late {
		p.giveUp() // The first signal may have come before the command ran.
		return nil
	}
	if m.Kept != nil {
		p.takeUpInput(m.Kept.Stdin)
	}
	close(p.started)
	return nil
}

func (p *process) exit(m *wire.ExecExited) error {
	if !p.isRunning() {
		return errUnexpected
	}
	p.mu.Lock()
	p.usage = newUsage(m.Usage)
	p.mu.Unlock()
	if m.Code != 0 {
		p.finish(newExitError(m))
	} else {
		p.finish(nil)
	}
	return nil
}

// refuseStdin stops the input: the agent would refuse every further piece. A command that
// closed its input, or ended, is no error, as in package os/exec.
func (p *process) refuseStdin(m *wire.ExecStdinError) {
	err := newStdinError(m)
	p.mu.Lock()
	if p.stdinErr == nil && err.Errno != epipe {
		p.stdinErr = err
	}
	p.mu.Unlock()
	p.closeStdin()
}

func (p *process) closeStdin() {
	p.at.Load().in.Discard()
	p.back.dropInput()
	if p.stdin != nil {
		_ = p.stdin.Close() // A stream's Close has no error.
	}
}

// fail ends a command whose terminal frame cannot be received any more. It kills the command
// before the caller can learn of the failure and send another request.
func (p *process) fail(err error) {
	if p.back.takes(p, err) {
		return
	}
	if !p.isOver() {
		p.giveUp()
	}
	p.finish(err)
}

// giveUp kills a command that nobody could hear of any more, or leaves one that is kept.
func (p *process) giveUp() {
	if p.kept == nil {
		p.kill()
		return
	}
	p.at.Load().put(new(wire.KeptDetach))
}

// finish ends a command: with nil for code 0, an *ExitError for another code, or the reason
// why there is no code. Only the first call has an effect.
func (p *process) finish(err error) {
	p.mu.Lock()
	again := p.over
	if !again {
		p.over, p.err = true, err
	}
	p.mu.Unlock()
	if again {
		return
	}
	p.closeStdin()
	end := outputEnd(err)
	p.eachOutput(func(s *stream) { s.finish(end) })
	close(p.done)
}

// outputEnd returns the error at the end of the output: io.EOF if the output is complete,
// which it is if the agent has reported the command's end.
func outputEnd(err error) error {
	var exit *ExitError
	if err == nil || errors.As(err, &exit) || errors.Is(err, ErrDetached) {
		return io.EOF
	}
	return err
}

func (p *process) eachOutput(f func(*stream)) {
	for _, s := range []*stream{p.stdout, p.stderr} {
		if s != nil {
			f(s)
		}
	}
}

func (p *process) discardOutput() {
	p.eachOutput(func(s *stream) { _ = s.Close() }) // A stream's Close has no error.
}

// kill sends signal 9 to the command's process group. It never waits: a link
// that has not taken a whole outbox of earlier messages would not take this one.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	s := p.at.Load()
	if s.ctl.Queued() > mux.DefaultOutbox {
		return
	}
	s.put(&wire.ExecSignal{Signal: sigkill, Kept: p.kept != nil})
}

func (p *process) wasKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// awaitStart returns when the command runs, or why it does not.
func (p *process) awaitStart(ctx context.Context) error {
	select {
	case <-p.started:
	case <-p.done:
	case <-ctx.Done():
		p.mu.Lock()
		running := p.running
		p.mu.Unlock()
		p.fail(ctx.Err())
		if !running {
			return ctx.Err() // Also if the agent says meanwhile that it has started: it is killed.
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return nil // Even if it ended since: Wait says how.
	}
	return p.err
}

// endsWithin reports whether the command ends in time.
func (p *process) endsWithin(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// signal sends a signal to the process group.
func (p *process) signal(sig syscall.Signal) error {
	if sig < 1 || sig > 31 {
		return fmt.Errorf("signal %d is not in 1-31", int(sig))
	}
	return p.sendAlive(&wire.ExecSignal{Signal: int32(sig), Kept: p.kept != nil})
}

func (p *process) sendAlive(m wire.Message) error {
	if p.isOver() {
		return os.ErrProcessDone
	}
	return p.send(m)
}

// send sends a message. A process that is between two links waits for the next one.
func (p *process) send(m wire.Message) error {
	for {
		s := p.at.Load()
		err := s.send(m)
		if err == nil || !p.back.awaitSeat(p, s, err) {
			return err
		}
	}
}

func (p *process) killAlive() error {
	if p.isOver() {
		return os.ErrProcessDone
	}
	p.kill()
	return nil
}

func (p *process) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// status returns how an ended command ended.
func (p *process) status() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *process) inputError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdinErr
}
