package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"github.com/agentd-go/agentd/wire"
)

// Command returns a Cmd for the named program, which is kept under a name of its own: it goes
// on when a link ends, and so does the Cmd, on the next link. Before Start the caller may
// change Keep. With a name of the caller's the end of the link before the command is known to
// run is an error of Start, because an equal name may be another command's.
func (r *Reconnector) Command(ctx context.Context, name string, args ...string) *Cmd {
	cmd := (*Client)(nil).CommandContext(ctx, name, args...)
	cmd.again = r
	cmd.Keep = new(Keep)
	return cmd
}

// Attach is [Client.Attach]; the Cmd goes on when a link ends, where the outputs were. With
// Write it takes the input on each link, and sends what the guest has not taken.
func (r *Reconnector) Attach(ctx context.Context, name string, v View) *Cmd {
	cmd := (*Client)(nil).Attach(ctx, name, v)
	cmd.again = r
	return cmd
}

// ownName returns a name for a kept command that no other has.
func ownName() string { return "r-" + rand.Text() }

// A comeback lets a process go on when its link ends. Its methods do nothing for nil.
type comeback struct {
	r     *Reconnector
	ctx   context.Context //nolint:containedctx // The command's; it bounds the attempts.
	view  View
	redo  *wire.ExecRequest // To repeat if it has not arrived; nil if it must not be repeated.
	input replay

	mu         sync.Mutex
	rows, cols uint16
	moving     bool          // A goroutine looks for a seat.
	lost       bool          // The seat that it found has gone.
	torn       bool          // A link has ended.
	moved      chan struct{} // Closed, and replaced, at each new seat.
}

// comeback makes the state of a command that goes on; nil for one that does not.
func (c *Cmd) comeback(first wire.Message) *comeback {
	if c.again == nil || c.view == nil && c.Keep == nil {
		return nil
	}
	b := &comeback{r: c.again, ctx: c.ctx, rows: c.Rows, cols: c.Cols, moved: make(chan struct{})}
	b.input.changed.L = &b.input.mu
	if c.view != nil {
		b.view = *c.view
		return b
	}
	b.view.Write = true
	if req, ok := first.(*wire.ExecRequest); ok && c.Keep.Name == "" {
		req.Keep.Name = ownName()
		b.redo = req
	}
	return b
}

// takes reports whether a process goes on after an error, which is its link's end.
func (b *comeback) takes(p *process, err error) bool {
	if b == nil || !LinkEnded(err) || p.isOver() || !p.isRunning() && b.redo == nil && p.attached == "" {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.torn = true
	if b.moving {
		b.lost = true
		return true
	}
	b.moving = true
	go b.move(p)
	return true
}

// move finds a seat on a new link.
func (b *comeback) move(p *process) {
	for {
		b.mu.Lock()
		b.lost = false
		b.mu.Unlock()
		c, err := b.r.Client(b.ctx)
		if err == nil && !p.isOver() {
			err = p.sit(c, p.attachAgain())
		}
		if err != nil && !LinkEnded(err) {
			p.finish(err)
		}
		if b.settled(err) {
			return
		}
	}
}

// settled ends the search for a seat, unless the seat has gone meanwhile.
func (b *comeback) settled(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost || err != nil && LinkEnded(err) {
		return false
	}
	b.moving = false
	close(b.moved)
	b.moved = make(chan struct{})
	return true
}

// attachAgain makes the message by which a process goes on where its outputs are.
func (p *process) attachAgain() *wire.KeptAttach {
	b := p.back
	v := b.view
	name := p.attached
	if p.isRunning() {
		stdout, stderr := p.kept.offsets()
		v.Stdout, v.Stderr = &stdout, &stderr
		name = p.kept.start.Name
	} else if b.redo != nil {
		name, v.Stdout, v.Stderr = b.redo.Keep.Name, new(uint64), new(uint64)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := v.message(name)
	m.Rows, m.Cols = b.rows, b.cols
	return m
}

// restart takes the agent's word on a command that is found again.
func (p *process) restart(m *wire.ExecStarted) error {
	if m.Kept == nil {
		return errUnexpected
	}
	p.mu.Lock()
	other, late := p.pid != int(m.PID), p.over
	p.mu.Unlock()
	if other || m.Kept.Name != p.kept.start.Name {
		return fmt.Errorf("the kept command %s is another one now", m.Kept.Name)
	}
	if late {
		p.giveUp()
		return nil
	}
	if err := p.kept.resume(m.Kept); err != nil {
		return err
	}
	p.takeUpInput(m.Kept.Stdin)
	return nil
}

// takeUpInput lets the input go on at what the guest has.
func (p *process) takeUpInput(from uint64) {
	b, s := p.back, p.at.Load()
	if b == nil || !b.view.Write {
		return
	}
	if !b.input.begin(s, from) {
		number := int32(syscall.EBUSY)
		p.refuseStdin(&wire.ExecStdinError{Errno: &number, Message: "another client has written meanwhile"})
		return
	}
	go b.input.pump(s)
}

// startFailed reports whether the start of a process is tried in another way. The request
// may have been lost with its link, or may have arrived: then its name is taken.
func (b *comeback) startFailed(p *process, m *wire.ExecFailed) bool {
	if b == nil || b.redo == nil || p.isRunning() {
		return false
	}
	b.mu.Lock()
	torn := b.torn
	b.mu.Unlock()
	if !torn {
		return false
	}
	var next wire.Message
	switch err := newStartError(p.path, m); {
	case m.Kind == wire.FailureNotFound && p.at.Load().attaches:
		next = b.redo
	case errors.Is(err, fs.ErrExist):
		next = p.attachAgain()
	default:
		return false
	}
	if err := p.sit(p.at.Load().client, next); err != nil {
		p.fail(err)
	}
	return true
}

// resize notes the size of the terminal, for the next link.
func (b *comeback) resize(rows, cols uint16) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.rows, b.cols = rows, cols
	}
}

// awaitSeat waits until a process has another seat than s, which has failed. It returns
// false if there will be none.
func (b *comeback) awaitSeat(p *process, s *seat, err error) bool {
	if b == nil || !LinkEnded(err) {
		return false
	}
	for {
		b.mu.Lock()
		moved := b.moved
		b.mu.Unlock()
		switch {
		case p.isOver():
			return false
		case p.at.Load() != s:
			return true
		}
		select {
		case <-moved:
		case <-p.done:
		}
	}
}

// taken notes how much input the guest has.
func (b *comeback) taken(offset uint64) {
	if b != nil {
		b.input.taken(offset)
	}
}

// dropInput ends the input: nobody reads it any more.
func (b *comeback) dropInput() {
	if b != nil {
		b.input.drop()
	}
}
