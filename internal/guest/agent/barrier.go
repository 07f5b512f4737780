package agent

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/session/exec"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// freezeLimit is how long the kernel may take to stop all commands. syncLimit is how
	// long a sync of the disks may take. Both are as in the reference agents.
	freezeLimit = 5 * time.Second
	syncLimit   = 20 * time.Second

	// maxAttempt is the longest name of an attempt.
	maxAttempt = 128

	// maxSyncs is how many threads wait for shares that do not answer.
	maxSyncs = 2
)

// The states of a freeze (protocol section 15.2).
type phase uint8

const (
	running phase = iota // Nobody has frozen anything.
	waiting              // Data before the cut has not come, or the commands are being stopped.
	frozen               // Nothing moves.
	stuck                // The freeze has failed. Stopped commands stay stopped until a thaw.
)

// A barrier is the state of freezing all commands.
type barrier struct {
	working sync.Mutex // Held while commands are stopped or let go, by one at a time.
	syncs   atomic.Int32
	still   atomic.Bool // The heartbeat pauses.

	mu      sync.Mutex
	phase   phase
	attempt *attempt // Not of running.

	last     string        // The attempt that was thawed last, "" if none was,
	lastMode wire.ThawMode // by the first thaw that did,
	lastWas  phase         // and where it was then.
}

// An attempt is one freeze.
type attempt struct {
	id     uint32 // Of its frames.
	freeze *wire.WorkloadFreeze
	answer *wire.WorkloadFrozen
	ended  chan struct{} // Closed when it is given up.
}

// isBarrier reports whether a frame is one of those that are not counted.
func (a *Agent) isBarrier(f frame.Frame, e wire.Envelope) bool {
	return a.host.Generation >= wire.BarrierSince && f.ID == wire.WorkloadID && f.Flags == 0 &&
		(e.Type == wire.TypeWorkloadFreeze || e.Type == wire.TypeWorkloadThaw)
}

// latch handles a frame that is not counted.
func (a *Agent) latch(id uint32, e wire.Envelope) {
	m, err := wire.Decode(e)
	if err != nil {
		a.say(id, &wire.ProtocolError{
			Kind: wire.ErrorInvalidPayload, OffendingType: e.Type,
			Message: "decode payload for " + string(e.Type) + ": " + err.Error(),
		})
		return
	}
	a.workload(id, m)
}

// workload freezes or thaws.
func (a *Agent) workload(id uint32, m wire.Message) {
	switch m := m.(type) {
	case *wire.WorkloadFreeze:
		a.freeze(id, m)
	case *wire.WorkloadThaw:
		a.thaw(id, m)
	}
}

// say sends an answer about freezing. It leaves also while all other output is stopped. A
// host that does not read gets no more of them.
func (a *Agent) say(id uint32, m wire.Message) {
	b, err := wire.AppendFrame(nil, a.host.Generation, id, m)
	if err != nil || !a.writer.Express().TrySend(b) {
		sys.Logf("%s on id %d was not sent: %v", m.Type(), id, err)
	}
}

// What a failed freeze leaves behind.
const (
	nothingDone   = "unavailable"
	needsRecovery = "recovery_required"
)

// failed is the answer to a freeze or thaw that is not carried out.
func (a *Agent) failed(id uint32, of wire.Type, which string, kind wire.ErrorKind, why, left string) {
	a.say(id, &wire.ProtocolError{
		Kind: kind, Message: why, OffendingType: of,
		WorkloadFailure: &wire.WorkloadFailure{AttemptID: session.Repeated(which), Disposition: left},
	})
}

func (a *Agent) conflict(id uint32, of wire.Type, which, why string) {
	a.failed(id, of, which, wire.ErrorInvalidSession, "workload latch conflict: "+why, needsRecovery)
}

// named refuses an attempt with an invalid name.
func (a *Agent) named(id uint32, of wire.Type, which string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(which) > 0 && len(which) <= maxAttempt && !strings.ContainsFunc(which, odd) {
		return true
	}
	a.failed(id, of, which, wire.ErrorInvalidPayload,
		"invalid checkpoint attempt identity: must be 1-128 printable ASCII bytes without spaces", needsRecovery)
	return false
}

// freeze begins to stop all commands, or says why not.
func (a *Agent) freeze(id uint32, m *wire.WorkloadFreeze) {
	b := &a.barrier
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase != waiting && !a.named(id, m.Type(), m.AttemptID) {
		return
	}
	got, _ := a.host.Credit.Position()
	if why := b.refusesLocked(m, got); why != "" {
		a.conflict(id, m.Type(), m.AttemptID, why)
		return
	}
	switch b.phase {
	case waiting: // The same again: its answer will come.
	case frozen:
		if len(m.ExternalMountTags) == 0 {
			a.say(id, b.attempt.answered(true))
			return
		}
		go a.repeat(id, b.attempt, m.ExternalMountTags)
	case running, stuck:
		at := &attempt{id: id, freeze: m, ended: make(chan struct{})}
		b.phase, b.attempt = waiting, at
		go a.stop(at)
	}
}

// repeat answers a freeze that is in force. The mounts are synced again, as named now.
func (a *Agent) repeat(id uint32, at *attempt, tags []string) {
	b := &a.barrier
	b.working.Lock()
	synced := a.sync(at, tags)
	b.working.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !at.isOver() {
		a.say(id, at.answered(synced))
	}
}

// answered is the attempt's answer.
func (at *attempt) answered(synced bool) *wire.WorkloadFrozen {
	m := *at.answer
	m.ExternalMountsSynced = synced
	return &m
}

const (
	// errCut says that the counts of the host and of the agent differ.
	errCut = "transport input cut differs from received complete frames"
	// errPending says that a freeze has not been answered yet.
	errPending = "another transport cut is pending"
	// errUncut says that a freeze has not come to its answer.
	errUncut = "restore requires a completed transport cut"
	// errMismatch says that another attempt is in force, in the reference's words.
	errMismatch = "restore requires its matching active freeze"
)

// refusesLocked says why an attempt cannot begin or be repeated.
func (b *barrier) refusesLocked(m *wire.WorkloadFreeze, got wire.TransportCounters) string {
	switch {
	case b.phase == running && !mayCome(m.HostInput, got):
		return errCut
	case b.phase == running:
		return ""
	case b.phase == waiting && !b.attempt.is(m):
		return errPending
	case b.phase == waiting:
		return ""
	case b.attempt.freeze.AttemptID != m.AttemptID:
		return errMismatch
	case b.phase == frozen && b.attempt.freeze.HostInput != m.HostInput:
		return "frozen transport cut cannot change"
	}
	return ""
}

// is reports whether a freeze is the attempt's, word for word.
func (at *attempt) is(m *wire.WorkloadFreeze) bool {
	f := at.freeze
	return f.AttemptID == m.AttemptID && f.HostInput == m.HostInput && slices.Equal(f.ExternalMountTags, m.ExternalMountTags)
}

// mayCome reports whether the agent has received everything that the host says it has sent,
// except data that may still be on its way.
func mayCome(sent, got wire.TransportCounters) bool {
	return sent.ControlBytes == got.ControlBytes && sent.ControlFrames == got.ControlFrames &&
		sent.BulkBytes >= got.BulkBytes && sent.BulkFrames >= got.BulkFrames
}

// stop does a freeze, from its request to its answer.
func (a *Agent) stop(at *attempt) {
	if why := a.awaitInput(at); why != "" {
		a.giveUp(at, func() { a.conflict(at.id, at.freeze.Type(), at.freeze.AttemptID, why) })
		return
	}
	b := &a.barrier
	b.working.Lock()
	defer b.working.Unlock()
	if at.isOver() {
		return
	}
	b.still.Store(true)
	if err := a.freezeCommands(); err != nil {
		a.notStopped(at, err)
		return
	}
	synced := a.sync(at, at.freeze.ExternalMountTags)
	a.settleFreeze(at, synced)
}

func (a *Agent) freezeCommands() error {
	if a.lasting != nil {
		return errors.Join(proc.ErrNoFreezer, errors.New("another init owns the workload"))
	}
	if a.exec.Procs == nil {
		return proc.ErrNoFreezer
	}
	return a.exec.Procs.Freeze(freezeLimit)
}

// notStopped answers a freeze that failed in the kernel.
func (a *Agent) notStopped(at *attempt, err error) {
	b := &a.barrier
	left, then := needsRecovery, stuck
	if errors.Is(err, proc.ErrNoFreezer) {
		left, then = nothingDone, running
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.still.Store(false)
	if at.isOver() { // Given up meanwhile, and answered.
		a.letGo()
		return
	}
	if b.phase = then; then == running {
		b.attempt = nil
	}
	why := "workload freezer operation failed: " + strings.ReplaceAll(err.Error(), "\n", ": ")
	a.failed(at.id, at.freeze.Type(), at.freeze.AttemptID, wire.ErrorUnavailable, why, left)
}

// awaitInput waits until the agent has received everything that the host says it has sent.
// It returns why that is impossible; "" is success, or an attempt that is over.
func (a *Agent) awaitInput(at *attempt) string {
	for {
		got, more := a.host.Credit.Position()
		switch {
		case got == at.freeze.HostInput:
			return ""
		case !mayCome(at.freeze.HostInput, got):
			return errCut
		}
		select {
		case <-more:
		case <-at.ended:
			return ""
		case <-a.writer.Done():
			return ""
		}
	}
}

func (at *attempt) isOver() bool {
	select {
	case <-at.ended:
		return true
	default:
		return false
	}
}

// giveUp ends an attempt that has not stopped anything, unless it is over, and answers it.
func (a *Agent) giveUp(at *attempt, answer func()) {
	b := &a.barrier
	b.mu.Lock()
	defer b.mu.Unlock()
	if !at.isOver() {
		b.phase, b.attempt = running, nil
		answer()
	}
}

// settleFreeze says that everything has stopped. It is the last message to the host.
func (a *Agent) settleFreeze(at *attempt, synced bool) {
	b := &a.barrier
	b.mu.Lock()
	defer b.mu.Unlock()
	got, _ := a.host.Credit.Position()
	if at.isOver() || got != at.freeze.HostInput {
		a.letGo()
		if !at.isOver() {
			b.phase, b.attempt = running, nil
			a.conflict(at.id, at.freeze.Type(), at.freeze.AttemptID, errCut)
		}
		return
	}
	at.answer = &wire.WorkloadFrozen{AttemptID: at.freeze.AttemptID, ExternalMountsSynced: synced}
	a.writer.Park()
	if a.host.Records != nil {
		at.answer.GuestBulkBytesTarget = a.host.Records.Park()
	}
	a.host.Credit.Hush(func(limit wire.TransportCounters) { at.answer.InputCredit = limit })
	b.phase = frozen
	a.express(at.id, at.answer)
}

// letGo lets stopped commands and output go on.
func (a *Agent) letGo() {
	if a.exec.Procs != nil {
		a.exec.Procs.Thaw()
	}
	a.barrier.still.Store(false)
	if a.host.Records != nil {
		a.host.Records.Unpark()
	}
	a.writer.Unpark()
}

// sync syncs the disks and the named mounts. It reports whether all of these succeeded.
func (a *Agent) sync(at *attempt, tags []string) bool {
	if a.barrier.syncs.Add(1) > maxSyncs {
		a.barrier.syncs.Add(-1)
		return false
	}
	done := make(chan bool, 1)
	go func() {
		defer a.barrier.syncs.Add(-1)
		sys.Sync()
		all := true
		for _, tag := range tags {
			all = syncTag(tag) && all
		}
		done <- all
	}()
	select {
	case all := <-done:
		return all
	case <-at.ended:
		return false
	case <-time.After(syncLimit):
		return len(tags) == 0
	}
}

// syncTag syncs one mount, named by a virtiofs tag, or by path: and an absolute path.
func syncTag(tag string) bool {
	path, isPath := strings.CutPrefix(tag, "path:")
	ok := isPath && strings.HasPrefix(path, "/") && sys.HasMount(path)
	if !isPath {
		path, ok = sys.MountOf(tag)
	}
	return ok && sys.SyncMount(path) == nil
}

// thaw lets everything go on, or says why not.
func (a *Agent) thaw(id uint32, m *wire.WorkloadThaw) {
	b := &a.barrier
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase != waiting && !a.named(id, m.Type(), m.AttemptID) {
		return
	}
	if why := b.holdsLocked(m); why != "" {
		a.conflict(id, m.Type(), m.AttemptID, why)
		return
	}
	if err := a.renew(m.Renew); err != nil {
		a.failed(id, m.Type(), m.AttemptID, wire.ErrorUnavailable, "renew: "+err.Error(), needsRecovery)
		return
	}
	at := b.attempt
	if b.phase == waiting {
		a.conflict(at.id, at.freeze.Type(), at.freeze.AttemptID, "transport cut aborted by source continuation")
	}
	if at != nil {
		close(at.ended)
	}
	if b.phase == frozen && m.Mode == wire.ThawRestore {
		a.detachAll()
	}
	was := b.phase
	b.phase, b.attempt = running, nil
	if was != running {
		b.last, b.lastMode, b.lastWas = m.AttemptID, m.Mode, was
	}
	a.host.Credit.Speak(a.sayCredit)
	a.express(id, &wire.WorkloadThawed{AttemptID: m.AttemptID, Renewed: m.Renew != nil})
	if was == frozen || was == stuck {
		a.letGo()
	}
}

// renew makes the guest differ from what it was before it was frozen.
func (a *Agent) renew(r *wire.Renew) error {
	switch {
	case r == nil:
		return nil
	case a.renews == nil:
		return errors.New("this machine cannot")
	}
	return a.renews(r)
}

// holdsLocked says why a thaw is impossible.
func (b *barrier) holdsLocked(m *wire.WorkloadThaw) string {
	restore, owner := m.Mode == wire.ThawRestore, b.last
	if b.phase != running {
		owner = b.attempt.freeze.AttemptID
	}
	switch same := m.AttemptID == owner; {
	case !same && b.phase == waiting:
		return errPending
	case restore && !same:
		return errMismatch
	case restore && (b.phase == waiting || b.phase == stuck || b.phase == running && b.lastWas == waiting):
		return errUncut
	case restore && b.phase == running && b.lastMode != wire.ThawRestore:
		return errMismatch
	case !same && b.phase == running:
		return "no matching workload freeze is active"
	case !same:
		return `attempt "` + owner + `" owns the freeze`
	}
	return ""
}

// detachAll detaches every session. Commands run on: they get the input that has come and
// then its end, and their output is discarded.
func (a *Agent) detachAll() {
	a.mu.Lock()
	for _, s := range a.sessions {
		if e, command := s.(*exec.Session); command {
			e.EndInput()
		}
	}
	a.mu.Unlock()
	a.forgetAll()
}

// wakeLocked lets everything go on for the end of the machine.
func (a *Agent) wakeLocked() {
	b := &a.barrier
	was := b.phase
	if was == running {
		return
	}
	close(b.attempt.ended)
	b.phase, b.attempt = running, nil
	if was == waiting {
		return // The goroutine that is stopping the commands lets them go on.
	}
	a.host.Credit.Speak(a.sayCredit)
	a.letGo()
}

// crossed refuses a frame that comes while everything is frozen: it is not part of the
// host's cut. A request for the machine's end thaws everything first, and is served.
func (a *Agent) crossed(f frame.Frame, e wire.Envelope) bool {
	if a.host.Credit == nil {
		return false
	}
	b := &a.barrier
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Type == wire.TypeShutdown && f.Flags == frame.Shutdown {
		a.wakeLocked()
	}
	if b.phase != frozen {
		return false
	}
	what := "ordinary input"
	switch {
	case wire.IsLease(f):
		what = "relay lease"
	case f.Flags&frame.Bulk != 0:
		what = "raw bulk input"
	}
	a.say(f.ID, &wire.ProtocolError{
		Kind: wire.ErrorInvalidSession, Message: what + " crossed the frozen transport cut", OffendingType: e.Type,
	})
	return true
}
