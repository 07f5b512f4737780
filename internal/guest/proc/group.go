package proc

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// ErrNoFreezer says that the kernel or this machine cannot freeze. Nothing was changed.
var ErrNoFreezer = errors.New("no workload freezer")

// errUngrouped says that commands have no control group, so nothing can be frozen.
var errUngrouped = errors.New("commands have no control group of their own here")

// A workload is the control group that all children begin in, made before the first.
type workload struct {
	path string // "" is none.

	once sync.Once
	mu   sync.Mutex
	in   *sys.Group
	err  error // Why there is none.

	cells cells
}

// group returns the control group, nil without one.
func (w *workload) group() (*sys.Group, error) {
	w.once.Do(func() {
		g, err := (*sys.Group)(nil), errUngrouped
		if w.path != "" {
			g, err = sys.OpenGroup(w.path)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.in, w.err = g, err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.in, w.err
}

// leave gives the group up, because no child can begin in it: it was removed, or the kernel
// cannot start a child in a group.
func (w *workload) leave(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in, w.err = nil, fmt.Errorf("start in the control group: %w", why)
}

// forkExec starts a program in a cell; without one in the workload's group, and without
// that where this process is.
func (t *Table) forkExec(path string, argv []string, attr *syscall.ProcAttr, c *sys.Cell) (pid int, err error) {
	if c != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, c.FD()
		return syscall.ForkExec(path, argv, attr)
	}
	g, _ := t.workload.group()
	if g == nil {
		attr.Sys.UseCgroupFD = false
		return syscall.ForkExec(path, argv, attr)
	}
	attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, g.FD()
	pid, err = syscall.ForkExec(path, argv, attr)
	if err == nil || !groupFailed(err) {
		return pid, err
	}
	// The group is at fault, not the program. To run the command matters more than to
	// be able to freeze it.
	t.workload.leave(err)
	sys.Logf("commands run outside of %s: %v", t.workload.path, err)
	attr.Sys.UseCgroupFD = false
	return syscall.ForkExec(path, argv, attr)
}

// groupFailed reports whether a start failed because of its control group.
func groupFailed(err error) bool {
	return errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EOPNOTSUPP)
}

// Freeze stops every process of the children's control group within a limit. Starts wait
// for Thaw. After an error that is not ErrNoFreezer, stopped processes stay stopped until
// Thaw.
func (t *Table) Freeze(limit time.Duration) error {
	g, err := t.workload.group()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoFreezer, err)
	}
	if err := t.latch.shutFor(limit); err != nil {
		return err
	}
	return g.Freeze(limit)
}

// Thaw lets the children go on, and starts begin.
func (t *Table) Thaw() {
	g, _ := t.workload.group()
	if g != nil {
		if err := g.Thaw(); err != nil {
			sys.Logf("thaw the commands: %v", err)
		}
	}
	t.latch.open()
}

// A latch keeps starts apart from freezing: a child that begins in a frozen group would
// stop before it is another program, and its parent with it.
type latch struct {
	mu       sync.Mutex
	starting int
	shut     chan struct{} // Closed when starts may go on; nil while they may.
	idle     chan struct{} // Closed when none is under way; nil if nobody waits.
}

func (l *latch) enter() {
	for {
		l.mu.Lock()
		shut := l.shut
		if shut == nil {
			l.starting++
		}
		l.mu.Unlock()
		if shut == nil {
			return
		}
		<-shut
	}
}

func (l *latch) exit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.starting--; l.starting == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// errStarting says that a start hangs in the kernel, on a file system that does not answer.
var errStarting = errors.New("a command has not started")

func (l *latch) shutFor(limit time.Duration) error {
	l.mu.Lock()
	if l.shut == nil {
		l.shut = make(chan struct{})
	}
	var idle chan struct{}
	if l.starting > 0 {
		if l.idle == nil {
			l.idle = make(chan struct{})
		}
		idle = l.idle
	}
	l.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%w within %v", errStarting, limit)
	}
}

func (l *latch) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut != nil {
		close(l.shut)
		l.shut = nil
	}
}
