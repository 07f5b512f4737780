package pod

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/ttrpc"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

const (
	// answerTime is for the guest to answer a call. The longest is the making of a
	// container: 0.2 s in software emulation, a hundred times that on a busy host.
	answerTime = 2 * time.Minute
	// killTime is for a container to end after signal 9.
	killTime = time.Minute
	// eventPause is the least between two events of the guest. It bounds what a guest
	// can have containerd do; memory runs out less often in earnest.
	eventPause = 100 * time.Millisecond
	// logBytes is what agentd-pod may say in containerd's log: it says a line when it
	// fails.
	logBytes = 64 << 10
)

// A guard ends a machine whose guest does not do what a pod must: no pod stays for
// ever because its guest is silent, or says what is not so. Other pods do not notice.
type guard struct {
	limit, kill time.Duration
	end         func() error // Kills the machine.
	log         func(string, ...any)
	once        sync.Once
}

func newGuard(end func() error, log func(string, ...any)) *guard {
	return &guard{limit: answerTime, kill: killTime, end: end, log: log}
}

// fail ends the machine, once.
func (g *guard) fail(format string, args ...any) {
	g.once.Do(func() {
		g.log("the machine is killed: "+format, args...)
		go func() {
			if err := g.end(); err != nil {
				g.log("kill the machine: %v", err)
			}
		}()
	})
}

// lasting are the calls that are answered when something happens.
var lasting = map[string]bool{"Wait": true, pact.Next: true}

// intercept bounds the time of a call. One that its caller gives up earlier says
// nothing about the guest.
func (g *guard) intercept(ctx context.Context, q *ttrpc.Request, a *ttrpc.Response, _ *ttrpc.UnaryClientInfo, call ttrpc.Invoker) error {
	if lasting[q.Method] {
		return call(ctx, q, a)
	}
	return g.within(ctx, q.Method, func(ctx context.Context) error { return call(ctx, q, a) })
}

// within bounds the time in which the guest answers, and ends the machine after it.
func (g *guard) within(ctx context.Context, what string, ask func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, g.limit)
	defer cancel()
	err := ask(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		g.fail("it does not answer %s within %v", what, g.limit)
		return errors.Join(ErrEnded, err)
	}
	return err
}

// insist ends the machine if a container that was sent signal 9 has not ended after a
// while, whatever the guest says.
func (g *guard) insist(container string, done <-chan struct{}) {
	go func() {
		select {
		case <-done:
		case <-time.After(g.kill):
			g.fail("container %s does not end within %v of signal 9", container, g.kill)
		}
	}()
}

// Insist is called for a container's first process that is sent signal 9: if it does
// not end the machine does.
func (p *Pod) Insist(proc *Process) {
	if m, err := p.running(); err == nil {
		m.guard.insist(proc.Container, proc.Done())
	}
}

// guestLog passes the beginning of what the guest's program writes to a log.
type guestLog struct {
	log  func(string, ...any)
	left int
}

func newGuestLog(log func(string, ...any)) *guestLog { return &guestLog{log, logBytes} }

func (l *guestLog) Write(b []byte) (int, error) {
	part := b[:min(len(b), l.left)]
	l.left -= len(part)
	if len(part) > 0 {
		l.log("guest: %q", part)
		if l.left == 0 {
			l.log("guest: more than %d bytes; the rest is dropped", logBytes)
		}
	}
	return len(b), nil
}
