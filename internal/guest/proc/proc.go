package proc

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("no more processes are started")

// reapBatch is how many children the reaper reaps before it releases the lock: a fork storm
// must not starve starts and signals.
const reapBatch = 64

// A Table knows every child of this process.
type Table struct {
	jobs    chan job
	closing chan struct{} // Closed by Close.
	sigs    chan os.Signal
	reaper  sync.WaitGroup
	score   *sys.Score // See Options.Protected.
	plain   bool       // A child inherits the same from every thread.
	root    uint64     // The device of the root.
	absent  absences

	workload workload
	latch    latch

	prepared atomic.Bool // Options.Before has been called.

	here sync.Mutex // Held by a start on its caller's thread.

	// forking is held from before a child exists until it is registered, and while the
	// reaper reaps. A start can hang in the kernel, on a file system whose server does
	// not answer: only the spawner and the reaper may wait for this lock.
	forking sync.Mutex

	mu       sync.Mutex
	children map[int]*Child
	closed   bool
}

// An Options says how a Table starts its children.
type Options struct {
	Restricted bool // All children run under the restricted profile.

	// Protected is the score of this process if the process is protected from the
	// kernel's OOM killer, which its children are not; else nil.
	Protected *sys.Score

	// Group is the control group (cgroups(7), version 2) that all children begin in; it is
	// made when it is first needed. "" leaves them where this process is.
	Group string

	// Before is called once, before the first child starts. It may be nil.
	Before func()
}

// New starts the reaper and the spawner. There must be one Table in a process.
func New(o Options) (*Table, error) {
	if err := sys.SealDescriptors(); err != nil {
		return nil, err
	}
	t := &Table{
		jobs:     make(chan job),
		closing:  make(chan struct{}),
		sigs:     make(chan os.Signal, 1),
		children: map[int]*Child{},
		score:    o.Protected,
		plain:    !o.Restricted,
		root:     sys.Device("/"),
	}
	t.absent.root = t.root
	t.workload.path = o.Group
	t.prepared.Store(o.Before == nil && o.Group == "")
	ready := make(chan error)
	go t.spawn(o, ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	signal.Notify(t.sigs, syscall.SIGCHLD)
	t.reaper.Go(t.reap)
	return t, nil
}

// reap reaps children whenever SIGCHLD comes, and those that ended before it ran.
func (t *Table) reap() {
	for {
		for t.reapSome() {
		}
		if _, open := <-t.sigs; !open {
			return
		}
	}
}

// reapSome reaps one batch and reports whether there may be more.
func (t *Table) reapSome() bool {
	t.forking.Lock()
	defer t.forking.Unlock()
	return t.takeLocked(reapBatch)
}

// takeLocked reaps at most so many, with forking held. It reports whether there may be more.
func (t *Table) takeLocked(most int) (more bool) {
	for range most {
		e, ok := sys.Reap()
		if !ok {
			return false
		}
		t.ended(e)
	}
	return true
}

// Look reaps a child that has ended. Call it when a child has probably ended: SIGCHLD is
// delivered late, over three threads. Look does not wait for a start that is under way.
func (t *Table) Look() {
	if !t.forking.TryLock() {
		return
	}
	defer t.forking.Unlock()
	t.takeLocked(1) // The reaper takes the rest: it gets the signal too.
}

// ended notes the end of a child. A process without an entry is an orphan, and needs
// nothing more.
func (t *Table) ended(e sys.Exited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.children[e.PID]; c != nil && !c.ended {
		c.ended = true
		c.status = status(e.Status)
		close(c.done)
	}
}

// Prepare calls Options.Before now instead of at the first start. It does not wait for it;
// starts do.
func (t *Table) Prepare() { t.submit(job{}) }

// Close refuses further starts and ends the spawner. The reaper goes on: PID 1 has orphans
// as long as it runs.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		close(t.closing)
	}
}

// Signal sends a signal to the group of every child that is not forgotten.
func (t *Table) Signal(number int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.children {
		_ = c.signalLocked(number) // Fails only if the group is gone.
	}
}

// Wait waits until every child known now has ended, or until ctx does.
func (t *Table) Wait(ctx context.Context) error {
	for _, c := range t.running() {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *Table) running() (all []*Child) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.children {
		if !c.ended {
			all = append(all, c)
		}
	}
	return all
}

// A Child is one started process, the leader of its own session and group.
type Child struct {
	table *Table
	pid   int
	done  chan struct{}
	cell  *sys.Cell // nil without one.
	own   bool      // No other command uses the cell.

	ended  bool // Guarded by table.mu, as is status until done is closed.
	status Status
}

// A Status is how a child ended: Signal is 0 after an exit with Code.
type Status struct {
	Code   int
	Signal int
}

func status(s syscall.WaitStatus) Status {
	if s.Signaled() {
		return Status{Signal: int(s.Signal())}
	}
	return Status{Code: s.ExitStatus()}
}

// killSignal is SIGKILL. A control group whose command it ended is not used again: Linux
// 6.12.68 kills each process that begins in a group by CLONE_INTO_CGROUP if cgroup.kill was
// ever written there. It compares the number of such writes with that of the group of the
// parent (cgroup_css_set_fork, kernel/cgroup/cgroup.c).
const killSignal = 9

// PID is the child's process id.
func (c *Child) PID() int { return c.pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status waits for the child's end and returns its status.
func (c *Child) Status() Status {
	<-c.done
	return c.status
}

// Signal sends a signal (1 to 31) to the child's process group. It refuses real-time
// signals.
func (c *Child) Signal(number int) error {
	if number < 1 || number > 31 {
		return syscall.EINVAL
	}
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if c.table.children[c.pid] != c {
		return nil
	}
	return c.signalLocked(number)
}

// signalLocked sends a signal to the group, unless the group is gone and another process has
// its number. The kernel gives no process the number of an existing group.
func (c *Child) signalLocked(number int) error {
	if c.ended && sys.IsProcess(c.pid) {
		return nil
	}
	return sys.Kill(-c.pid, number)
}

// forget waits for the end of a child that is about to end and forgets it.
func (c *Child) forget() {
	<-c.done
	c.Release()
}

// Release forgets the child. It is still reaped, and Done still reports its end.
func (c *Child) Release() {
	if c.forgotten() && c.cell != nil {
		c.table.workload.cells.give(c.cell, c.own || c.status.Signal == killSignal)
	}
}

// forgotten takes an ended child out of the table; false if it is not there.
func (c *Child) forgotten() bool {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if !c.ended || c.table.children[c.pid] != c {
		return false
	}
	delete(c.table.children, c.pid)
	return true
}
