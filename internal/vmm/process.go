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
	// stderrTail holds what QEMU and virtiofsd say before they give up: a few lines.
	stderrTail = 16 << 10

	// pipeDelay is how long a program's output may stay open after its end, in the
	// hands of a child of its own.
	pipeDelay = time.Second

	// killWait bounds the wait for a killed process. Only one that hangs in the
	// kernel (a dead network disk) takes longer, and no wait helps there.
	killWait = 5 * time.Second
)

// A nursery is the thread that starts children. The kernel kills a child with
// Pdeathsig when the thread that forked it ends, and the Go runtime ends threads as
// it likes: this one lives until stop.
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

// stop ends the thread's duty; every child has to be gone.
func (n *nursery) stop() { close(n.work) }

// A process is one child of ours.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *tail // standard output and error together
	done   chan struct{}
	err    error // what Wait said; read it after done
}

// start runs argv with files as descriptors 3 and up, in a process group of its
// own so that a terminal's ^C does not reach it.
func (n *nursery) start(name string, argv []string, files ...*os.File) (*process, error) {
	p := &process{name: name, output: newTail(stderrTail), done: make(chan struct{})}
	// Not the caller's context: the process outlives the call that starts it.
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

// ended waits at most d and reports whether the process is gone.
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

// terminate asks the process to end, as a shutdown of the host would.
func (p *process) terminate() { p.signal(syscall.SIGTERM) }

func (p *process) kill() { p.signal(syscall.SIGKILL) }

// signal goes to the process alone and never to a later owner of its number. An
// error says that it is gone already.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// stop gives the process time to end by itself, then kills it.
func (p *process) stop(grace time.Duration) {
	if p.ended(grace) {
		return
	}
	p.kill()
	p.ended(killWait)
}
