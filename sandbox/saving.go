package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
)

// saving is what a machine needs to be saved.
type saving struct {
	mu     sync.Mutex // Held by one of Snapshot, Pause and Resume at a time.
	config Config     // As the machine was started.
	link   link
	frozen atomic.Bool // The agent's commands are frozen, or about to be.

	// Of a paused machine:
	dir     string // "" if it is not paused.
	attempt string
}

// A link is what another host must know to go on with a guest.
type link struct {
	Ready      []byte          `json:"ready"` // The frame of core.ready.
	Generation wire.Generation `json:"generation"`
	Leased     bool            `json:"leased,omitempty"`
}

// A savedMachine is what package snapshot keeps for us.
type savedMachine struct {
	Config  Config          `json:"config"`
	Link    link            `json:"link"`
	Attempt string          `json:"attempt"` // Of the freeze.
	Cut     relay.Cut       `json:"cut"`
	Record  json.RawMessage `json:"record,omitempty"` // The caller's.

	Files string `json:"files,omitempty"` // Of a pause: Config.Files then, as an absolute path.
	Clone *clone `json:"clone,omitempty"` // Of a pause that was never this machine: see Clone.
}

// A clone is how a machine differs from the one in whose snapshot it began.
type clone struct {
	Hostname  string `json:"hostname,omitempty"`
	MachineID string `json:"machine_id,omitempty"`
}

// An UnsavableError says why a machine cannot be paused to the disk, or be in a snapshot.
type UnsavableError struct{ Err error }

// Error returns the reason.
func (e *UnsavableError) Error() string { return "the machine cannot be saved: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnsavableError) Unwrap() error { return e.Err }

var (
	errNoRelay   = errors.New("it has one client without a relay; Config.Socket gives it one")
	errSurvives  = errors.New("it outlives the process that started it (agentctl's --survive)")
	errNoBarrier = errors.New("its agent cannot freeze commands (protocol generation 9)")
	errPaused    = errors.New("the machine is paused")
	errNotPaused = errors.New("the machine is not paused")
)

// CheckSavable returns nil if [Machine.Snapshot] and [Machine.Pause] are possible, and an
// [UnsavableError] otherwise: the machine has shared directories, TAP cards, another init
// or an agent that cannot freeze commands.
func (m *Machine) CheckSavable() error {
	err := m.layout.machine.CheckSavable()
	switch {
	case m.survive != "":
		err = errSurvives
	case err != nil && !m.saving.config.hasShares():
		err = fmt.Errorf("%w; a machine that is made to start from a template (agentctl's --warm) has no such directory of its own", err)
	case err != nil:
	case m.saving.config.Init != "":
		err = errors.New("another init owns its processes")
	case m.relay == nil:
		err = errNoRelay
	default:
		if err = m.saving.link.checkFreezes(); err == nil {
			return nil
		}
	}
	return &UnsavableError{err}
}

// checkFreezes returns nil if the agent can freeze commands.
func (l link) checkFreezes() error {
	h, err := l.handshake()
	if err == nil && !h.freezes() {
		err = errNoBarrier
	}
	return err
}

// Snapshot saves the machine in a directory, which must not exist: its memory, its
// devices and copies of its disks. The machine stands still meanwhile, and goes on also
// after an error. record is the caller's; [ReadSnapshot] returns it. When Snapshot returns
// nil the directory is on the disk; before, nothing has its name.
func (m *Machine) Snapshot(ctx context.Context, dir string, record json.RawMessage) error {
	m.saving.mu.Lock()
	defer m.saving.mu.Unlock()
	k, state, err := m.beginSaving(dir)
	if err != nil {
		return err
	}
	defer func() { _ = state.Close() }() // Commit syncs it.
	s, err := m.capture(ctx, k, state, record)
	if err != nil {
		k.Abort()
		return err
	}
	return k.Commit(s)
}

// beginSaving makes the directory, if the machine is not paused and can be saved. The caller
// holds saving.mu.
func (m *Machine) beginSaving(dir string) (k *snapshot.Maker, state *os.File, err error) {
	if m.saving.dir != "" {
		return nil, nil, errPaused
	}
	if err := m.CheckSavable(); err != nil {
		return nil, nil, err
	}
	if k, err = snapshot.Begin(dir); err != nil {
		return nil, nil, err
	}
	if state, err = k.State(); err != nil {
		k.Abort()
	}
	return k, state, err
}

// capture writes the state and the disks of the machine, which goes on.
func (m *Machine) capture(ctx context.Context, k *snapshot.Maker, state *os.File, record json.RawMessage) (s snapshot.Machine, err error) {
	if s, err = m.describe(ctx, snapshot.Snapshot); err != nil {
		return s, err
	}
	own := savedMachine{Config: m.saving.config, Link: m.saving.link, Attempt: newAttempt(), Record: record}
	if own.Cut, err = m.freeze(ctx, own.Attempt); err != nil {
		return s, err
	}
	err = m.vm.Capture(ctx, state, func() error {
		s.Made = time.Now().UTC()
		return copyDisks(k, &s)
	})
	err = errors.Join(err, m.thaw(context.WithoutCancel(ctx), own.Attempt, wire.ThawContinue, nil))
	if err == nil {
		err = linkDisks(k, &s)
	}
	if err == nil {
		s.Owner, err = json.Marshal(own)
	}
	return s, err
}

// describe returns the manifest, without files.
func (m *Machine) describe(ctx context.Context, kind snapshot.Kind) (s snapshot.Machine, err error) {
	s = snapshot.Machine{
		Kind: kind, VM: m.layout.machine, Arguments: m.layout.machine.StateArgs(), Named: m.vm.Named(),
		Disks: make([]snapshot.Disk, len(m.layout.machine.Disks)),
	}
	if s.Host, err = thisHost(s.VM.Kernel); err != nil {
		return s, err
	}
	s.Host.TSCkHz = s.VM.TSCkHz
	s.Host.QEMU, err = m.vm.Version(ctx)
	return s, err
}

// copyDisks copies the disks that the machine writes to, while it stands still.
func copyDisks(k *snapshot.Maker, s *snapshot.Machine) error {
	for i, d := range s.VM.Disks {
		if d.ReadOnly {
			continue
		}
		s.Disks[i].File = snapshot.DiskName(i)
		if err := snapshot.CopyDisk(k.Path(s.Disks[i].File), d.Path); err != nil {
			return err
		}
	}
	return nil
}

// linkDisks adds the disks that nobody writes to.
func linkDisks(k *snapshot.Maker, s *snapshot.Machine) error {
	for i, d := range s.VM.Disks {
		if !d.ReadOnly {
			continue
		}
		s.Disks[i] = snapshot.Disk{File: snapshot.DiskName(i), ReadOnly: true}
		if err := snapshot.LinkDisk(k.Path(s.Disks[i].File), d.Path); err != nil {
			return err
		}
	}
	return nil
}

// Pause saves the machine in a directory, which must not exist, and frees the host's
// memory: no process executes the machine until [Machine.Resume]. Clients stay connected.
// What they send waits, and no byte of a command's output is lost. The directory has the
// memory and the devices; the disks stay the machine's own, and nobody may change them.
// After an error the machine goes on. If this program ends meanwhile, [Restore] continues
// the machine from the directory.
func (m *Machine) Pause(ctx context.Context, dir string, record json.RawMessage) error {
	m.saving.mu.Lock()
	defer m.saving.mu.Unlock()
	k, state, err := m.beginSaving(dir)
	if err != nil {
		return err
	}
	defer func() { _ = state.Close() }() // Commit syncs it.
	s, err := m.describe(ctx, snapshot.Pause)
	if err != nil {
		k.Abort()
		return err
	}
	own := savedMachine{Config: m.saving.config, Link: m.saving.link, Attempt: newAttempt(), Record: record, Files: m.layout.dir}
	if own.Cut, err = m.freeze(ctx, own.Attempt); err != nil {
		k.Abort()
		return err
	}
	committed := false
	err = m.vm.Pause(ctx, state, func() error {
		committed = true
		return commitPause(k, s, own)
	})
	if err != nil {
		if !committed {
			k.Abort()
		}
		return errors.Join(err, m.thaw(context.WithoutCancel(ctx), own.Attempt, wire.ThawContinue, nil))
	}
	m.saving.dir, m.saving.attempt = dir, own.Attempt
	return nil
}

// commitPause completes the directory while nobody writes to the disks.
func commitPause(k *snapshot.Maker, s snapshot.Machine, own savedMachine) (err error) {
	defer func() {
		if err != nil {
			k.Abort()
		}
	}()
	for i, d := range s.VM.Disks {
		if s.Disks[i], err = snapshot.InPlace(d.Path, d.ReadOnly); err != nil {
			return err
		}
	}
	s.Made = time.Now().UTC()
	if s.Owner, err = json.Marshal(own); err != nil {
		return err
	}
	return k.Commit(s)
}

// Paused reports whether the machine is paused by [Machine.Pause].
func (m *Machine) Paused() bool {
	m.saving.mu.Lock()
	defer m.saving.mu.Unlock()
	return m.saving.dir != ""
}

// Resume lets the machine go on that [Machine.Pause] has paused, and removes the directory.
// Its clock is set and its commands' TCP connections to other hosts are reset before
// anything runs. If the state cannot be used, the machine stays paused, and the error says
// why. After a later failure the machine has ended.
func (m *Machine) Resume(ctx context.Context) error {
	m.saving.mu.Lock()
	defer m.saving.mu.Unlock()
	dir := m.saving.dir
	if dir == "" {
		return errNotPaused
	}
	saved, err := snapshot.ReadMachine(dir)
	if err != nil {
		return err
	}
	state, err := saved.OpenFiles(dir)
	if err != nil {
		return err
	}
	defer func() { _ = state.Close() }() // Read only.
	if err := m.vm.Resume(ctx, state); err != nil {
		return err
	}
	m.saving.dir = ""
	renew := &wire.Renew{Fresh: *fresh(), Disconnect: m.layout.machine.Network}
	if err := m.thaw(ctx, m.saving.attempt, wire.ThawContinue, renew); err != nil {
		m.kill()
		return err
	}
	return snapshot.Discard(dir)
}

// thisHost describes this host, apart from QEMU and the counter's frequency.
func thisHost(kernel string) (h snapshot.Host, err error) {
	h.Processor = vmm.ProcessorName()
	h.Kernel, err = snapshot.FileDigest(kernel)
	return h, err
}
