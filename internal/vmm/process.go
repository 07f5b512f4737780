package vmm

import (
	"context"
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
type nursery struct{ work chan func() }

func newNursery() *nursery {
	n := &nursery{work: make(chan func())}
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

// A process is one child of ours.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *tail // standard output and error together
	done   chan struct{}
	err    error // Wait's error; read it after done
}

// start runs argv with files as descriptors 3 and up, in a process group of its
// own so that a terminal's ^C does not reach it.
func (n *nursery) start(name string, argv []string, files ...*os.File) (*process, error) {
	p := &process{name: name, output: newTail(stderrTail), done: make(chan struct{})}
	// Without the caller's context, because the process outlives the call.
	p.cmd = exec.CommandContext(context.Background(), argv[0], argv[1:]...)
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = childAttr()
	p.cmd.WaitDelay = pipeDelay
	started := make(chan error)
	n.work <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

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
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// stop waits for the process to end by itself, and kills it after the grace period.
func (p *process) stop(grace time.Duration) {
	if p.ended(grace) {
		return
	}
	p.kill()
	p.ended(killWait)
}
