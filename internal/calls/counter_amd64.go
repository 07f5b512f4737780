package calls

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Counter runs a program and counts its calls.
type Counter struct {
	pid   int
	ended chan error

	mu     sync.Mutex
	counts map[string]int
}

// Start starts a program on one processor, with files as its descriptors. It ends with the
// thread that traces it, at the latest with this process.
func Start(path string, argv, env []string, files []uintptr) (*Counter, error) {
	c := &Counter{ended: make(chan error, 1), counts: map[string]int{}}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // For good: only the thread that started the program may trace it.
		err := c.start(path, argv, env, files)
		started <- err
		if err == nil {
			c.ended <- c.trace()
		}
	}()
	return c, <-started
}

func (c *Counter) start(path string, argv, env []string, files []uintptr) error {
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("one processor: %w", err)
	}
	attr := &syscall.ProcAttr{Env: env, Files: files, Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return &os.PathError{Op: "start", Path: path, Err: err}
	}
	c.pid = pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return fmt.Errorf("wait for the program: %w", err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	return errors.Join(unix.PtraceSetOptions(pid, options), unix.PtraceSyscall(pid, 0))
}

// Counts returns how often each call was begun so far.
func (c *Counter) Counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.counts)
}

// Wait waits for the program's end.
func (c *Counter) Wait() error { return <-c.ended }

// trace handles one stop after the other until the program has ended.
func (c *Counter) trace() error {
	inside := map[int]bool{} // The tasks that are in a call.
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for a stop: %w", err)
		case status.Stopped():
			c.stopped(pid, status, inside)
		case pid == c.pid:
			return nil
		default:
			delete(inside, pid)
		}
	}
}

// stopped lets a task go on. An error means that the task has just ended.
func (c *Counter) stopped(pid int, status unix.WaitStatus, inside map[int]bool) {
	const call = unix.SIGTRAP | 0x80 // PTRACE_O_TRACESYSGOOD.
	signal := status.StopSignal()
	switch {
	case signal == call:
		if inside[pid] = !inside[pid]; inside[pid] {
			c.count(pid)
		}
		signal = 0
	case signal == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_EXEC:
		delete(inside, pid)
		_ = unix.PtraceDetach(pid)
		return
	case signal == unix.SIGTRAP, signal == unix.SIGSTOP: // Another event, or a new task.
		signal = 0
	}
	_ = unix.PtraceSyscall(pid, int(signal))
}

func (c *Counter) count(pid int) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[name(regs.Orig_rax)]++
}
