package vmm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// stderrTail bounds the kept output of QEMU and virtiofsd, which print a few lines
	// when they fail.
	stderrTail = 16 << 10

	// pipeDelay is how long a child of an ended program may hold the program's output
	// open.
	pipeDelay = time.Second

	// killWait bounds the wait for a killed process. A process takes longer only if it
	// hangs in the kernel (a dead network disk), and then no wait helps.
	killWait = 5 * time.Second
)

// A nursery is a thread that starts children. The kernel kills a child with Pdeathsig
// when the thread that forked it ends, and the Go runtime ends threads as it likes:
// this one lives until stop.
type nursery struct {
	work    chan func()
	lasting string // See [Options.Lasting].
	born    int
}

func newNursery(lasting string) *nursery {
	n := &nursery{work: make(chan func()), lasting: lasting}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range n.work {
			f()
		}
	}()
	return n
}

// stop ends the thread. All children must have ended.
func (n *nursery) stop() { close(n.work) }

// A process is one child of ours, or one that another process has left to us.
type process struct {
	name   string
	pid    int
	cmd    *exec.Cmd
	output *tail         // standard output and error together
	read   chan struct{} // closed at the end of a lasting process's output
	done   chan struct{}
	err    error // Wait's error; read it after done

	// Of one that was left to us:
	handle  *os.File      // its pidfd (pidfd_open(2)); nil for a child
	judged  chan struct{} // closed when verdict is set; nil if that never comes
	verdict func() error  // says why it has ended
}

func newProcess(name string) *process {
	return &process{name: name, output: newTail(stderrTail), read: make(chan struct{}), done: make(chan struct{})}
}

// start runs argv with files as descriptors 3 and up, in a process group of its
// own so that a terminal's ^C does not reach it.
func (n *nursery) start(name string, argv []string, files ...*os.File) (*process, error) {
	p := newProcess(name)
	// Without the caller's context, because the process outlives the call.
	p.cmd = exec.CommandContext(context.Background(), argv[0], argv[1:]...)
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = childAttr()
	p.cmd.WaitDelay = pipeDelay
	if n.lasting == "" {
		close(p.read) // Wait waits for the output.
	} else {
		out, err := n.outlast(p)
		if err != nil {
			return nil, err
		}
		defer func() { _ = out.Close() }() // The process has it.
	}
	started := make(chan error)
	n.work <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	go p.wait()
	return p, nil
}

// outlast lets a process outlive this one. It returns the end of the process's output, for
// the caller to close.
func (n *nursery) outlast(p *process) (*os.File, error) {
	path := outputPath(n.lasting, n.born)
	n.born++
	out, err := outlet(path)
	if err != nil {
		return nil, err
	}
	if err := p.drain(path); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, ownSession()
	return out, nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	p.finish()
}

// finish reads the rest of the output of a process that has ended, and tells the others.
func (p *process) finish() {
	select {
	case <-p.read:
	case <-time.After(pipeDelay): // A child of it has the output open.
	}
	if p.judged != nil {
		<-p.judged
		p.err = p.verdict()
	}
	close(p.done)
}

// release forgets a process that was left to us. It goes on.
func (p *process) release() { _ = p.handle.Close() }

// ended waits at most d, and reports whether the process has ended.
func (p *process) ended(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// terminate sends SIGTERM.
func (p *process) terminate() { p.signal(syscall.SIGTERM) }

func (p *process) kill() { p.signal(syscall.SIGKILL) }

// signal sends a signal to the process, and never to a later process with the same
// number. It ignores the error, which says that the process has ended.
func (p *process) signal(s syscall.Signal) {
	if p.handle != nil {
		p.signalHandle(s)
		return
	}
	_ = p.cmd.Process.Signal(s)
}

// stop waits for the process to end by itself, and kills it after the grace period.
func (p *process) stop(grace time.Duration) {
	if p.ended(grace) {
		return
	}
	p.kill()
	p.ended(killWait)
}
