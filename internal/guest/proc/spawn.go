package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// A Stage is the part of a start that failed.
type Stage string

// The stages.
const (
	StageDirectory Stage = "chdir"
	StageLimits    Stage = "setrlimit"
	StageGroup     Stage = "cgroup" // Name is the setting's.
	StageExec      Stage = "exec"
)

// A StartError says why a child could not be started.
type StartError struct {
	Stage Stage
	Name  string // The directory, resource or program.
	Err   error  // A syscall.Errno if the kernel refused.
}

func (e *StartError) Error() string { return fmt.Sprintf("%s %q: %v", e.Stage, e.Name, e.Err) }

func (e *StartError) Unwrap() error { return e.Err }

// A Limit is one resource limit, by the kernel's number.
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

// A Descriptor is an open file that a child gets. It stays the caller's.
type Descriptor interface{ Fd() uintptr }

// A Spec says what to start.
type Spec struct {
	Name   string   // A path, or a name to search for in the PATH of Env.
	Argv   []string // From argv[0] on.
	Env    []string
	Dir    string
	Stdio  [3]Descriptor // The child's descriptors 0, 1 and 2.
	TTY    bool          // Descriptor 0 becomes the controlling terminal.
	User   *syscall.Credential
	Limits []Limit // Set after the change of user, so a user's own limits hold.

	Settings []Setting // Of the command's control group.
	Report   bool      // Child.Group counts for this command alone.
}

// A job is an order for the spawner. A job with a nil spec only runs Options.Before.
type job struct {
	spec   *Spec
	result chan<- result
}

type result struct {
	child    *Child
	launcher *os.File // Where the launcher reports; nil without one.
	err      error
}

// Start starts a child in a session of its own. The files of Stdio stay the
// caller's. The error is a *StartError or [ErrClosed].
func (t *Table) Start(s *Spec) (*Child, error) {
	if c := t.startHere(s); c != nil {
		return c, nil
	}
	answer := make(chan result, 1)
	if !t.submit(job{s, answer}) {
		return nil, ErrClosed
	}
	r := <-answer
	if r.err != nil || r.launcher == nil {
		return r.child, r.err
	}
	if err := launched(r.launcher); err != nil {
		r.child.forget()
		return nil, err
	}
	return r.child, nil
}

// startHere starts a child from the caller's thread if the child needs nothing of the
// spawner's thread: that saves two thread switches. Only one start at a time does so,
// because a start that hangs keeps its thread. It returns nil for all other children, and
// after a failure: the spawner starts those, and can tell which stage failed.
func (t *Table) startHere(s *Spec) (c *Child) {
	if !t.plain || !t.prepared.Load() || s.User != nil || len(s.Limits) > 0 || !absolute(s.Name, s.Env) || !t.here.TryLock() {
		return nil
	}
	defer t.here.Unlock()
	select {
	case <-t.closing:
		return nil
	default:
	}
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	if dir != "/" && sys.Device(dir) != t.root {
		return nil // To enter the directory may hang, and a child must not hang before its exec.
	}
	_ = search(s.Name, s.Env, func(path string) (err error) {
		c, err = t.fork(path, s.Argv, s, &syscall.ProcAttr{Dir: dir})
		return err
	})
	return c
}

// absolute reports whether the directory makes no difference to what name means.
func absolute(name string, env []string) bool {
	if strings.Contains(name, "/") {
		return name[0] == '/'
	}
	for dir := range strings.SplitSeq(variable(env, "PATH"), ":") {
		if !strings.HasPrefix(dir, "/") {
			return false
		}
	}
	return true
}

// submit hands a job to the spawner; false after Close.
func (t *Table) submit(j job) bool {
	select {
	case <-t.closing: // Otherwise select might choose a spawner that still runs.
		return false
	default:
	}
	select {
	case t.jobs <- j:
		return true
	case <-t.closing:
		return false
	}
}

// spawn is the spawner: it starts children from its own thread.
func (t *Table) spawn(o Options, ready chan<- error) {
	runtime.LockOSThread() // For good: the thread differs from the others now.
	if sys.IsMainThread() {
		// /proc/1/status shows the main thread: what it shows of the agent, whatever the
		// commands' profile, is the agent's own, as it is with the reference.
		go t.spawn(o, ready) // On another thread, as this one is taken.
		<-t.closing
		return
	}
	err := sys.OwnDirectory()
	if err == nil {
		err = sys.Chdir("/") // Its directory between two starts.
	}
	if err == nil && o.Restricted {
		err = sys.Restrict()
	}
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case j := <-t.jobs:
			if !t.prepared.Load() {
				_, _ = t.workload.group() // Freeze says why there is none.
				if o.Before != nil {
					o.Before()
				}
				t.prepared.Store(true)
			}
			if j.spec != nil {
				j.result <- t.start(j.spec)
			}
		case <-t.closing:
			return
		}
	}
}

func (t *Table) start(s *Spec) (r result) {
	if s.Dir != "" && s.Dir != "/" { // It is in / already.
		if err := sys.Chdir(s.Dir); err != nil {
			return result{err: &StartError{StageDirectory, s.Dir, err}}
		}
		// To stay would keep the directory's file system busy.
		defer func() { _ = sys.Chdir("/") }()
	}
	if len(s.Limits) > 0 {
		return t.startLauncher(s)
	}
	r.err = search(s.Name, s.Env, func(path string) (err error) {
		r.child, err = t.fork(path, s.Argv, s, &syscall.ProcAttr{})
		return err
	})
	return r
}

// attempt starts the program where the search finds it: the spawner by forking,
// the launcher by becoming it.
type attempt func(path string) error

// search tries the places where name may be, as execvp(3) does: after a file that may not
// be executed the search goes on, and EACCES is returned if nothing is found.
func search(name string, env []string, try attempt) error {
	const nameMax = 255 // NAME_MAX: no directory can hold a longer one.
	last := error(syscall.ENOENT)
	if len(name) > nameMax && !strings.Contains(name, "/") {
		return &StartError{StageExec, name, syscall.ENAMETOOLONG}
	}
	for _, path := range candidates(name, env) {
		err := try(path)
		var why *StartError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &why):
			return err // The program was not tried.
		case errors.Is(err, syscall.EACCES):
			last = err
		case !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENOTDIR), strings.Contains(name, "/"):
			return &StartError{StageExec, name, err}
		}
	}
	return &StartError{StageExec, name, last}
}

// candidates lists the paths that name may mean. An empty element of PATH means the
// working directory.
func candidates(name string, env []string) []string {
	if name == "" || strings.Contains(name, "/") {
		return []string{name}
	}
	var all []string
	for dir := range strings.SplitSeq(variable(env, "PATH"), ":") {
		path := name
		if dir != "" {
			path = strings.TrimSuffix(dir, "/") + "/" + name
		}
		all = append(all, path)
	}
	return all
}

func variable(env []string, key string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, key+"="); ok {
			return value
		}
	}
	return ""
}

// fork starts path and registers the child before it can be reaped. attr may name its
// directory, which is entered after the change of user, and files besides Stdio.
func (t *Table) fork(path string, argv []string, s *Spec, attr *syscall.ProcAttr) (*Child, error) {
	attr.Env = s.Env
	attr.Files = append([]uintptr{s.Stdio[0].Fd(), s.Stdio[1].Fd(), s.Stdio[2].Fd()}, attr.Files...)
	attr.Sys = &syscall.SysProcAttr{Setsid: true, Setctty: s.TTY, Credential: s.User}
	if err := t.reach(path, !strings.Contains(s.Name, "/")); err != nil {
		return nil, err
	}
	t.latch.enter()
	defer t.latch.exit()
	cell, err := t.cell(s, s.own())
	if err != nil {
		return nil, err
	}
	c, err := t.forkIn(path, argv, attr, cell)
	if cell != nil && err != nil && groupFailed(err) {
		// A command of before has changed it, or the kernel cannot start children in groups.
		t.workload.cells.give(cell, true)
		if cell, err = t.cell(s, true); err != nil {
			return nil, err
		}
		if c, err = t.forkIn(path, argv, attr, cell); cell != nil && err != nil && groupFailed(err) && !s.own() {
			t.workload.cells.give(cell, true)
			return t.forkIn(path, argv, attr, nil)
		}
	}
	if cell != nil && err != nil {
		t.workload.cells.give(cell, s.own())
		return nil, err
	}
	if cell != nil {
		c.own = s.own()
		t.workload.cells.started(cell)
	}
	return c, err
}

// forkIn starts path in a control group and registers the child.
func (t *Table) forkIn(path string, argv []string, attr *syscall.ProcAttr, cell *sys.Cell) (*Child, error) {
	t.forking.Lock()
	defer t.forking.Unlock()
	pid, err := t.exposed(func() (int, error) { return t.forkExec(path, argv, attr, cell) })
	if err != nil {
		return nil, err
	}
	c := &Child{table: t, pid: pid, cell: cell, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.children[pid] = c // An ended child with the same number is forgotten.
	return c, nil
}

// reach waits for a program whose file system may not answer. During a search it returns
// the error of a place without a file, because each attempt costs a process.
func (t *Table) reach(path string, searched bool) error {
	if !searched {
		_ = sys.Reach(path, t.root) // Ignore the error: the child's user may get a different one.
		return nil
	}
	if err := t.absent.check(path); err != nil {
		return err
	}
	return clearly(sys.Reach(path, t.root))
}

// exposed starts a child that is not protected from the OOM killer, as the agent may be. A
// score is inherited. Set later, it would come too late for the child's first children.
func (t *Table) exposed(start func() (int, error)) (int, error) {
	if t.score == nil {
		return start()
	}
	if err := t.score.Expose(); err != nil {
		return 0, err
	}
	pid, err := start()
	_ = t.score.Protect() // It has succeeded before, and the child runs already.
	return pid, err
}
