package pod

import (
	"context"
	"sync"
	"time"

	"github.com/agentd-go/agentd/shim/internal/stream"
)

// A Status is where a process is in its life.
type Status int

// The states, in their order.
const (
	Created Status = iota
	Running
	Stopped
)

const (
	// killedStatus is of a process that ended with its machine: as by signal 9.
	killedStatus = 137
	// failedStatus is of a process that could not be started.
	failedStatus = 127
	// settleTime is how long a deletion waits for output that is on its way, as
	// containerd's own shim does.
	settleTime = 10 * time.Second
)

// A Process is one that containerd knows by name.
type Process struct {
	Container, Exec string // Exec is "" for a container's first.
	Streams         stream.Spec

	order sync.Mutex

	mu     sync.Mutex
	state  Status
	code   uint32
	at     time.Time
	set    *stream.Set
	done   chan struct{}
	paused bool
}

func newProcess(container, exec string, streams stream.Spec) *Process {
	return &Process{Container: container, Exec: exec, Streams: streams, done: make(chan struct{})}
}

// Status returns where the process is in its life.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// SetPaused notes that the container is frozen.
func (p *Process) SetPaused(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = paused
}

// Paused reports whether the container is frozen.
func (p *Process) Paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused && p.state != Stopped
}

// Done is closed when the process has ended and that has been told.
func (p *Process) Done() <-chan struct{} { return p.done }

// Result returns the status of a process that has ended, and when that was.
func (p *Process) Result() (code uint32, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code, p.at
}

func (p *Process) markStarted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Created {
		p.state = Running
	}
}

// finish tells of the end, after the start was told. The time is this host's, so that it
// is after the start's whatever the guest's clock shows.
func (p *Process) finish(code uint32, tell func()) {
	p.order.Lock()
	defer p.order.Unlock()
	if p.stop(code, time.Now()) {
		tell()
		close(p.done)
	}
}

// fail ends a process that could not be started.
func (p *Process) fail() {
	if p.stop(failedStatus, time.Now()) {
		close(p.done)
	}
}

func (p *Process) stop(code uint32, at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Stopped {
		return false
	}
	p.state, p.code, p.at = Stopped, code, at
	return true
}

// connect opens the streams on both sides.
func (p *Process) connect(ctx context.Context, m *machine) error {
	set, err := stream.Open(ctx, p.Streams)
	if err != nil {
		return err
	}
	if err := set.Start(m.connector(ctx, p)); err != nil {
		set.Close()
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = set
	return nil
}

// CloseInput ends the process's input.
func (p *Process) CloseInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set != nil {
		p.set.CloseInput()
	}
}

func (p *Process) takeSet() *stream.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := p.set
	p.set = nil
	return set
}

func (p *Process) disconnect() {
	if set := p.takeSet(); set != nil {
		set.Close()
	}
}

// settle waits until the output has been written, and closes the streams.
func (p *Process) settle(ctx context.Context) {
	set := p.takeSet()
	if set == nil {
		return
	}
	select {
	case <-set.Drained():
	case <-time.After(settleTime):
	case <-ctx.Done():
	}
	set.Close()
}
