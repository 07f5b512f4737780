package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	// helperGrace is for a virtiofsd whose machine is gone: it ends by itself as
	// soon as it is scheduled, after what it is writing.
	helperGrace = 2 * time.Second

	// quitTimeout is for QEMU to finish its disk writes after "quit". A host's
	// disk that takes longer is as good as gone.
	quitTimeout = 5 * time.Second

	// termGrace is the same for SIGTERM, which does the same: it has had its time.
	termGrace = 2 * time.Second
)

// A VM is a machine that was started. Its methods may be called at any time and
// from any goroutine.
type VM struct {
	accel   string
	command string

	nursery  *nursery
	qemu     *process
	helpers  []*process
	qmp      *qmp
	port     net.Conn
	records  net.Conn // nil without a second port
	terminal net.Conn
	console  *console
	held     []*os.File // Locks of disks, see hold.

	cause atomic.Pointer[error] // why we ended it ourselves, if that was no caller's wish
	done  chan struct{}
	err   error // read it after done
}

// Port returns the host's end of the agent's port, the caller's to close. It is
// connected from the start: what is written before the guest opens the port
// waits. It ends when the machine does.
func (v *VM) Port() net.Conn { return v.port }

// Records returns the host's end of the second port, of a machine that has one, as
// Port does; else nil.
func (v *VM) Records() net.Conn { return v.records }

// Console returns the last of what the guest has printed, at most 64 KiB.
func (v *VM) Console() []byte { return v.console.tail.Bytes() }

// AccelReason says in a line for the user who executes the guest, and why.
func (v *VM) AccelReason() string { return v.accel }

// Command returns lines for sh that repeat the machine by hand: the console on
// the terminal, the agent's port and QMP as sockets in a fresh directory.
func (v *VM) Command() string { return v.command }

// Pid returns the process id of QEMU.
func (v *VM) Pid() int { return v.qemu.cmd.Process.Pid }

// Done returns a channel that is closed when the machine has ended and its
// processes are gone.
func (v *VM) Done() <-chan struct{} { return v.done }

// Wait waits for the end of the machine: nil where the guest ended it or QEMU was
// told to quit, else an [ExitError]. A guest whose kernel panicked ends it by a
// restart like any other; only its console tells. Wait returns ctx's error when
// that ends first.
func (v *VM) Wait(ctx context.Context) error {
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pause stops the guest's CPUs until [VM.Resume].
func (v *VM) Pause(ctx context.Context) error { return v.qmp.execute(ctx, "stop") }

// Resume lets a paused guest go on.
func (v *VM) Resume(ctx context.Context) error { return v.qmp.execute(ctx, "cont") }

// Kill ends the machine at once, as a power cut would, and returns when its
// processes are gone. [VM.Wait] then returns an [ExitError].
func (v *VM) Kill() {
	v.qemu.kill()
	_ = v.await(killWait) // A process that cannot be killed is in nobody's hands.
}

// Quit ends the machine without asking the guest, but with its disks in order:
// by QMP for as long as ctx allows (at most 5 s), by SIGTERM for 2 s, by SIGKILL.
// It returns what [VM.Wait] returns.
func (v *VM) Quit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quitTimeout)
	defer cancel()
	if v.qmp.execute(ctx, "quit") == nil {
		select {
		case <-v.qemu.done:
		case <-ctx.Done():
		}
	}
	if !v.qemu.ended(0) {
		v.qemu.terminate()
	}
	v.qemu.stop(termGrace)
	return v.await(killWait)
}

func (v *VM) await(d time.Duration) error {
	// Watch takes this long at most after the end of QEMU.
	d += consoleDrain + time.Duration(len(v.helpers))*(helperGrace+killWait)
	select {
	case <-v.done:
		return v.err
	case <-time.After(d):
		return fmt.Errorf("qemu (pid %d) cannot be killed", v.Pid())
	}
}

// watch sees the machine to its end and clears up behind it.
func (v *VM) watch() {
	for _, h := range v.helpers {
		go v.guard(h)
	}
	<-v.qemu.done
	for _, h := range v.helpers {
		h.stop(helperGrace)
	}
	v.console.drain(v.terminal)
	_ = v.qmp.close() // It has nobody at its far end.
	v.nursery.stop()
	v.letGo()
	v.err = v.result()
	close(v.done)
}

// guard ends the machine when one of its virtiofsd ends before it: the guest would
// wait for its files for ever.
func (v *VM) guard(h *process) {
	<-h.done
	if v.qemu.ended(helperGrace) {
		return // It was the other way round.
	}
	err := fmt.Errorf("%s ended before the machine: %w", h.name, orExit(h.err))
	v.cause.Store(&err)
	v.qemu.kill()
}

// errExit stands for an exit status of 0 where even that is a failure.
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
	if v.qemu.err != nil {
		return v.explain(v.qemu.err)
	}
	return nil
}

// explain adds what is known to the reason of an end.
func (v *VM) explain(err error) error {
	if v.qemu == nil {
		return err
	}
	return &ExitError{
		Err:     err,
		Output:  outputs(v.qemu, v.helpers),
		Console: string(v.Console()),
		Command: v.command,
	}
}
