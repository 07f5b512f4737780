package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// goOnTimeout bounds what lets a machine go on after a failed attempt to save it: QEMU
// answers both commands at once.
const goOnTimeout = 10 * time.Second

var (
	errEndedPaused = errors.New("the machine was ended while it was paused")
	errNotPaused   = errors.New("the machine is not paused")
	errStopped     = errors.New("the machine's processors do not run, so it cannot be saved")
	errEnded       = errors.New("the machine has ended")
)

// keptEnds are QEMU's ends of the links that outlive one QEMU: they stay open here too.
// The next QEMU inherits the same sockets. So no byte is lost when one QEMU takes the
// machine over from another: what the first has not read, the second reads.
type keptEnds struct{ agent, console, records *os.File }

func (k *keptEnds) close() {
	for _, f := range []*os.File{k.agent, k.console, k.records} {
		if f != nil {
			_ = f.Close() // Nothing was written to it here.
		}
	}
	*k = keptEnds{}
}

// keepEnds keeps copies of QEMU's ends, for a machine that can be saved.
func (v *VM) keepEnds(ends descriptors, o Options) (err error) {
	if savable := v.machine.CheckSavable() == nil; o.PortSocket != "" || !savable {
		return nil
	}
	// The order of launch: agent, console, QMP, no shares, records.
	if v.kept.agent, err = duplicate(ends[0]); err != nil {
		return err
	}
	if v.kept.console, err = duplicate(ends[1]); err != nil {
		return err
	}
	if v.machine.Records {
		v.kept.records, err = duplicate(ends[len(ends)-1])
	}
	return err
}

// CheckSavable returns nil if the state of the machine can be saved while it runs, or
// else an [UnfitError] with the reason.
func (m Machine) CheckSavable() error {
	switch {
	case len(m.Shares) > 0:
		return &UnfitError{fmt.Errorf("it shares the directory %s with the host (tag %s), and QEMU cannot save the state of a shared directory's server",
			m.Shares[0].Dir, m.Shares[0].Tag)}
	case len(m.Taps) > 0:
		return &UnfitError{fmt.Errorf("its network card is the interface %s of the host, which cannot be saved", m.Taps[0].Name)}
	}
	return nil
}

// Named reports whether the machine's memory has a name of its own in a saved state. A
// machine that starts from the state needs to know it ([Saved]).
func (v *VM) Named() bool { return v.named }

// named is [VM.Named] for a machine that is about to start.
func (o Options) named() bool {
	return o.saving != nil || o.From != nil && (o.From.Memory != nil || o.From.Named)
}

// Version returns QEMU's version, as QEMU itself says it.
func (v *VM) Version(ctx context.Context) (string, error) { return v.monitor().version(ctx) }

func (q monitor) version(ctx context.Context) (string, error) {
	var is struct {
		QEMU struct {
			Major int `json:"major"`
			Minor int `json:"minor"`
			Micro int `json:"micro"`
		} `json:"qemu"`
		Package string `json:"package"`
	}
	if err := q.qmp.call(ctx, "query-version", nil, &is); err != nil {
		return "", err
	}
	version := fmt.Sprintf("%d.%d.%d", is.QEMU.Major, is.QEMU.Minor, is.QEMU.Micro)
	if is.Package != "" {
		version += " (" + is.Package + ")"
	}
	return version, nil
}

// Capture stops the machine's processors, writes its whole state to a file, calls then,
// and lets the machine go on. During then nobody writes to the machine's disks. After an
// error the machine goes on too, and the file is useless.
func (v *VM) Capture(ctx context.Context, to *os.File, then func() error) error {
	v.turning.Lock()
	defer v.turning.Unlock()
	if v.paused() {
		return errPaused
	}
	err := v.still(ctx, to)
	if err == nil {
		err = then()
	}
	return errors.Join(err, v.goOn(ctx))
}

var errPaused = errors.New("the machine is paused")

// still stops the machine's processors and writes its state to a file.
func (v *VM) still(ctx context.Context, to *os.File) error {
	q := v.monitor()
	if err := q.checkRuns(ctx); err != nil {
		return err
	}
	if err := v.machine.CheckSavable(); err != nil {
		return err
	}
	if err := q.qmp.execute(ctx, "stop"); err != nil {
		return err
	}
	if err := q.writeState(ctx, to, memoryInState); err != nil {
		return q.whyEnded(err)
	}
	return nil
}

func (q monitor) checkRuns(ctx context.Context) error {
	var now struct {
		Running bool `json:"running"`
	}
	if err := q.qmp.call(ctx, "query-status", nil, &now); err != nil {
		return q.whyEnded(err)
	}
	if !now.Running {
		return errStopped
	}
	return nil
}

// goOn lets a machine go on whose state is, or was being, written.
func (v *VM) goOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goOnTimeout)
	defer cancel()
	q := v.monitor()
	if err := q.abandon(ctx); err != nil {
		return q.whyEnded(err)
	}
	return q.goOn(ctx)
}

// goOn starts the processors after a migration. QEMU says that it has completed some
// milliseconds before it allows that, and has no event for it.
func (q monitor) goOn(ctx context.Context) error {
	const pause = 5 * time.Millisecond
	for {
		err := q.qmp.execute(ctx, "cont")
		if refusal, ok := errors.AsType[*QMPError](err); !ok || !strings.Contains(refusal.Desc, "not finalized") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// abandon ends a migration that the caller has given up. It waits for the end: until then
// QEMU does not let the machine go on.
func (q monitor) abandon(ctx context.Context) error {
	w, _ := q.watchMigration()
	defer q.qmp.unwatch(w)
	var info struct {
		Status string `json:"status"`
	}
	if err := q.qmp.call(ctx, "query-migrate", nil, &info); err != nil {
		return err
	}
	switch info.Status {
	case "setup", "active", "device", "cancelling":
	default:
		return nil // It has ended, or was never begun.
	}
	if err := q.qmp.execute(ctx, "migrate_cancel"); err != nil {
		return err
	}
	return q.qmp.awaitEvent(ctx, w)
}

// Pause writes the machine's whole state to a file, calls commit, and ends QEMU, so that
// the machine takes none of the host's memory. The machine does not end: its ports stay
// open, and bytes wait in them until [VM.Resume]. After an error the machine goes on, and
// the file is useless; but if QEMU ends after commit, the machine is paused.
func (v *VM) Pause(ctx context.Context, to *os.File, commit func() error) error {
	v.turning.Lock()
	defer v.turning.Unlock()
	if v.paused() {
		return errPaused
	}
	if v.kept.agent == nil {
		return &UnfitError{errors.New("its port is a socket that others use")}
	}
	err := v.still(ctx, to)
	if err == nil {
		if err = v.beginPause(); err == nil {
			err = commit()
		}
	}
	if err != nil {
		v.cancelPause()
		return errors.Join(err, v.goOn(ctx))
	}
	quit, cancel := context.WithTimeout(context.WithoutCancel(ctx), quitTimeout)
	defer cancel()
	q := v.monitor()
	q.quit(quit)
	_ = q.qmp.close() // QEMU has ended.
	return nil
}

func (v *VM) paused() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.resumed != nil
}

// beginPause makes the end of QEMU the beginning of a pause instead of the machine's end.
func (v *VM) beginPause() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.mon.done:
		return errEnded
	default:
		v.resumed = make(chan struct{})
		return nil
	}
}

// cancelPause takes beginPause back.
func (v *VM) cancelPause() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.endPauseLocked()
}

func (v *VM) endPauseLocked() {
	if v.resumed != nil {
		close(v.resumed)
		v.resumed = nil
	}
}

// endPause ends a paused machine. A nil why is an end in order.
func (v *VM) endPause(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.resumed == nil {
		return
	}
	if why != nil {
		v.cause.Store(&why)
	}
	v.endPauseLocked()
}

// awaitQEMU waits for the end of the last QEMU that has the machine.
func (v *VM) awaitQEMU() {
	for {
		q := v.monitor()
		<-q.done
		resumed, over := v.afterEnd(q)
		if over {
			return
		}
		<-resumed
	}
}

// afterEnd says what the end of a QEMU means: that the machine has ended, or that it
// is paused until a channel is closed.
func (v *VM) afterEnd(q monitor) (resumed <-chan struct{}, over bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.mon.process != q.process: // It was paused and resumed already.
		now := make(chan struct{})
		close(now)
		return now, false
	case v.resumed == nil:
		return nil, true
	}
	return v.resumed, false
}

// Resume lets a paused machine go on from the file that [VM.Pause] has written. After an
// error the machine stays paused. As soon as it goes on its disks change, so that the file
// does not fit them any more.
func (v *VM) Resume(ctx context.Context, from *os.File) error {
	v.turning.Lock()
	defer v.turning.Unlock()
	if !v.paused() {
		return errNotPaused
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	q, err := v.load(ctx, &Saved{State: from, Named: v.named})
	if err == nil && !v.takeOver(q) {
		err = errEnded
	}
	if err != nil && q.process != nil {
		q.stop(0)
	}
	if err != nil && q.qmp != nil {
		_ = q.qmp.close() // QEMU has ended.
	}
	return err
}

// load starts another QEMU with the machine's links and lets it run from a state.
func (v *VM) load(ctx context.Context, from *Saved) (q monitor, err error) {
	p, err := newPlan(v.machine, tools{qemu: v.program}, Options{From: from})
	if err != nil {
		return q, err
	}
	control, theirs, err := socketPair()
	if err != nil {
		return q, err
	}
	ends := descriptors{v.kept.agent, v.kept.console, theirs}
	if v.machine.Records {
		ends = append(ends, v.kept.records)
	}
	if _, err = from.State.Seek(0, 0); err == nil {
		q, err = v.startQEMU(ctx, p.qemu, slices.Concat(ends, []*os.File{from.State}), control, func() { _ = theirs.Close() })
	}
	if err != nil {
		_, _ = theirs.Close(), control.Close() // They carried nothing that counts.
		return q, err
	}
	return q, q.restore(ctx, v.machine, from, p.stateFD)
}

// takeOver makes a QEMU the machine's, unless the machine was ended meanwhile.
func (v *VM) takeOver(q monitor) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.resumed == nil {
		return false
	}
	v.mon = q
	v.endPauseLocked()
	return true
}
