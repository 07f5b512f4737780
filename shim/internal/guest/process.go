package guest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// exitUnknown is the status of a process that could not be waited for, or started.
const exitUnknown = 255

// A process is one that the shim knows by name.
type process struct {
	spec     *specs.Process
	terminal bool
	wants    [3]bool // Stdin, stdout, stderr.
	ended    chan struct{}

	mu      sync.Mutex
	lib     *libcontainer.Process
	started bool
	code    uint32
	at      time.Time
	size    *unix.Winsize // Of a terminal that is not there yet.
	console *os.File

	// Ours are the ends of its streams that we hold, theirs those that it inherits.
	ours, theirs [3]*os.File
	taken        [3]bool
}

func newProcess(stdin, stdout, stderr, terminal bool) *process {
	return &process{wants: [3]bool{stdin, stdout, stderr && !terminal}, terminal: terminal, ended: make(chan struct{})}
}

// run starts the process: a container's first one up to its program.
func (p *process) run(box *libcontainer.Container, first bool) error {
	lib, err := libraryProcess(p.spec)
	if err != nil {
		return err
	}
	lib.Init = first
	p.mu.Lock()
	p.lib = lib
	p.mu.Unlock()
	if !p.terminal {
		p.inherit(lib)
		err = box.Start(lib)
		p.closeTheirs()
		return err
	}
	return p.runOnTerminal(box, lib)
}

// runOnTerminal takes the terminal that the library makes inside the container.
func (p *process) runOnTerminal(box *libcontainer.Container, lib *libcontainer.Process) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }()
	lib.ConsoleSocket = theirs
	err = box.Start(lib)
	_ = theirs.Close() // Ours ends with the last of theirs.
	if err != nil {
		return err
	}
	console, err := receiveFile(ours)
	if err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	return p.setConsole(console)
}

func (p *process) setConsole(console *os.File) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.console = console
	if p.size != nil {
		return setSize(console, p.size)
	}
	return nil
}

func (p *process) pid() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lib == nil {
		return 0
	}
	pid, err := p.lib.Pid()
	if err != nil {
		return 0
	}
	return uint32(pid)
}

// begin marks the process as started, once.
func (p *process) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return false
	}
	p.started = true
	return true
}

func (p *process) wasStarted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) isRunning() bool { return p.wasStarted() && !p.hasEnded() }

func (p *process) status() tasktypes.Status {
	switch {
	case p.hasEnded():
		return tasktypes.Status_STOPPED
	case p.wasStarted():
		return tasktypes.Status_RUNNING
	default:
		return tasktypes.Status_CREATED
	}
}

// finish notes the end. A signal's number is told as shells do.
func (p *process) finish(state *os.ProcessState, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.at = exitCode(state, err), time.Now()
	close(p.ended)
}

func exitCode(state *os.ProcessState, err error) uint32 {
	if state == nil {
		if _, bad := errors.AsType[*os.PathError](err); bad {
			return 127
		}
		return exitUnknown
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + uint32(ws.Signal())
	}
	return uint32(state.ExitCode())
}

func (p *process) result() (uint32, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code, p.at
}

func (p *process) signal(sig unix.Signal) error {
	if p.hasEnded() {
		return os.ErrProcessDone
	}
	p.mu.Lock()
	lib := p.lib
	p.mu.Unlock()
	if lib == nil {
		return errors.New("the process has not been started")
	}
	return lib.Signal(sig)
}

func (p *process) resize(width, height uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := &unix.Winsize{Col: width, Row: height}
	if p.console == nil {
		p.size = size
		return nil
	}
	return setSize(p.console, size)
}

// setSize does nothing to a terminal whose process has ended: its output may have been
// carried, and the file closed, before a client's word arrives. It does not use Fd,
// which would make reads of the terminal block its Close.
func setSize(console *os.File, size *unix.Winsize) error {
	raw, err := console.SyscallConn()
	if err != nil {
		return err
	}
	// Control fails for a file that is closed alone.
	_ = raw.Control(func(fd uintptr) { err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
	return err
}
