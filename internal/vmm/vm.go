package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// helperGrace is the grace period of a virtiofsd whose machine has ended: it
	// finishes its writes and ends by itself when it is scheduled.
	helperGrace = 2 * time.Second

	// quitTimeout is how long QEMU may take to finish its disk writes after "quit". A
	// disk that takes longer counts as dead.
	quitTimeout = 5 * time.Second

	// termGrace is how long QEMU may take after SIGTERM, which repeats the "quit".
	termGrace = 2 * time.Second
)

// A VM is a machine that was started. Its methods may be called at any time and
// from any goroutine.
type VM struct {
	command string
	machine Machine // As it runs: with its accelerator.
	program string  // QEMU.
	named   bool    // See Named.
	lasting string  // See Options.Lasting.

	nursery  *nursery
	helpers  []*process
	kept     keptEnds
	port     net.Conn
	records  net.Conn // nil without a second port
	terminal net.Conn
	console  *console
	held     []*os.File // Locked disks; see hold.

	turning sync.Mutex // Held by one of Capture, Pause and Resume at a time.

	mu      sync.Mutex
	mon     monitor
	resumed chan struct{} // Not nil while the machine is paused; closed when that ends.

	cause atomic.Pointer[error] // why we ended it without a caller's request
	done  chan struct{}
	err   error // read it after done
}

// A monitor is one QEMU and its control link.
type monitor struct {
	*process
	qmp *qmp
}

// monitor returns the QEMU that has the machine, or had it until it was paused.
func (v *VM) monitor() monitor {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mon
}

// Port returns the host's end of the agent's port, which the caller closes. It is
// connected from the start: bytes that are written before the guest opens the port
// wait. It ends with the machine.
func (v *VM) Port() net.Conn { return v.port }

// Records returns the host's end of the second port, like Port; nil if the machine has
// none.
func (v *VM) Records() net.Conn { return v.records }

// Console returns the end of the guest's console output, at most 64 KiB.
func (v *VM) Console() []byte { return v.console.tail.Bytes() }

// Command returns shell lines that repeat the machine by hand, with the console on the
// terminal, and the agent's port and QMP as sockets in a fresh directory.
func (v *VM) Command() string { return v.command }

// Pid returns the process id of QEMU; 0 while the machine is paused.
func (v *VM) Pid() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.resumed != nil {
		return 0
	}
	return v.mon.pid
}

// Done returns a channel that is closed when the machine has ended and its
// processes are gone.
func (v *VM) Done() <-chan struct{} { return v.done }

// Wait waits for the end of the machine. It returns nil if the guest ended it or QEMU
// was told to quit, and an [ExitError] otherwise. A kernel panic also ends the machine
// by a restart, so Wait returns nil; only the console shows it. If ctx ends first, Wait
// returns ctx's error.
func (v *VM) Wait(ctx context.Context) error {
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop stops the guest's CPUs until [VM.Continue]; the names are QMP's.
func (v *VM) Stop(ctx context.Context) error { return v.monitor().qmp.execute(ctx, "stop") }

// Continue lets a stopped guest go on.
func (v *VM) Continue(ctx context.Context) error { return v.monitor().qmp.execute(ctx, "cont") }

// Kill ends the machine at once, like a power cut, and returns when its processes have
// ended. [VM.Wait] then returns an [ExitError].
func (v *VM) Kill() {
	v.endPause(errEndedPaused)
	v.monitor().kill()
	_ = v.await(killWait) // Nothing helps against a process that cannot be killed.
}

// Quit ends the machine without asking the guest, but completes the disk writes: by QMP
// as long as ctx allows (at most 5 s), then by SIGTERM (2 s), then by SIGKILL. It
// returns what [VM.Wait] returns.
func (v *VM) Quit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quitTimeout)
	defer cancel()
	v.endPause(nil)
	v.monitor().quit(ctx)
	return v.await(killWait)
}

func (q monitor) quit(ctx context.Context) {
	if q.qmp.execute(ctx, "quit") == nil {
		select {
		case <-q.done:
		case <-ctx.Done():
		}
	}
	if !q.ended(0) {
		q.terminate()
	}
	q.stop(termGrace)
}

func (v *VM) await(d time.Duration) error {
	// watch takes at most this long after the end of QEMU.
	d += consoleDrain + time.Duration(len(v.helpers))*(helperGrace+killWait)
	select {
	case <-v.done:
		return v.err
	case <-time.After(d):
		return fmt.Errorf("qemu (pid %d) cannot be killed", v.Pid())
	}
}

// watch waits for the machine's end and then cleans up.
func (v *VM) watch() {
	for _, h := range v.helpers {
		go v.guard(h)
	}
	v.awaitQEMU()
	v.kept.close() // Ends the links' other ends.
	for _, h := range v.helpers {
		h.stop(helperGrace)
	}
	v.console.drain(v.terminal)
	_ = v.mon.qmp.close() // QEMU has ended, and no other one starts.
	v.nursery.stop()
	v.letGo()
	if v.lasting != "" {
		removeLasting(v.lasting)
	}
	v.err = v.result()
	close(v.done)
}

// guard ends the machine when one of its virtiofsd ends before it: the guest would
// wait for its files for ever.
func (v *VM) guard(h *process) {
	<-h.done
	if v.monitor().ended(helperGrace) {
		return // The machine ended first.
	}
	err := fmt.Errorf("%s ended before the machine: %w", h.name, orExit(h.err))
	v.cause.Store(&err)
	v.monitor().kill()
}

// errExit reports an exit status of 0 that is a failure, because the process ended too
// early.
var errExit = errors.New("exit status 0")

func orExit(err error) error {
	if err == nil {
		return errExit
	}
	return err
}

func (v *VM) result() error {
	if cause := v.cause.Load(); cause != nil {
		return v.explain(*cause)
	}
	if err := v.monitor().err; err != nil {
		return v.explain(err)
	}
	return nil
}

// explain adds outputs, console and command to the reason of an end.
func (v *VM) explain(err error) error {
	qemu := v.monitor().process
	if qemu == nil {
		return err
	}
	return &ExitError{
		Err:     err,
		Output:  outputs(qemu, v.helpers),
		Console: string(v.Console()),
		Command: v.command,
	}
}
