package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// A WarmStart says whether a machine may start from a template: the memory of a machine
// with the same kernel, agent, size and devices that waits for its configuration. It is
// made when it is missing, and kept in the cache.
type WarmStart string

// The values of a WarmStart. WarmAuto and WarmTry differ only where hardware virtualization
// executes the machine: nobody has tried templates there, and a boot is short.
const (
	WarmAuto WarmStart = ""     // The machine starts from a template if it is emulated and the configuration allows it.
	WarmTry  WarmStart = "try"  // The machine starts from a template if the configuration allows it.
	WarmNone WarmStart = "none" // The machine boots.
)

func (w WarmStart) check() error {
	switch w {
	case WarmAuto, WarmTry, WarmNone:
		return nil
	}
	return fmt.Errorf("warm start %q: want %q, %q or none of them", w, WarmTry, WarmNone)
}

const (
	templateKind = "templates"

	// templateRecipe is part of the key of every template. Change it whenever the same
	// machine needs another template.
	templateRecipe = "template 1"

	// firstWord is how long a machine from a template may run without its first
	// message. It needs 0.2 s in software emulation.
	firstWord = 5 * time.Second

	// tscTolerance is the allowed relative difference (1/tscTolerance) of two
	// measurements of the time stamp counter: ten times what measurements of one
	// processor differ by.
	tscTolerance = 1000
)

// A TemplateError says why a start from a template failed, so that the machine booted
// instead.
type TemplateError struct{ Err error }

// Error returns a line for the user.
func (e *TemplateError) Error() string { return "no start from a template: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TemplateError) Unwrap() error { return e.Err }

// Cold says why the machine has booted; nil if it has started from a template. It is a
// [TemplateError] if the template failed. It is another error if the configuration, the
// host or a concurrent start excluded a template.
func (m *Machine) Cold() error { return m.layout.cold }

// whyCold names the part of the configuration that excludes a template, or returns nil.
func (c Config) whyCold() error {
	for _, obstacle := range []struct {
		there bool
		what  string
	}{
		{c.Warm == WarmNone, "not wanted"},
		{c.hooks.Foreign, "another agent than ours"},
		{c.Configuration != ByBootstrap, "a configuration by environment"},
		{c.hooks.Bootstrap != nil, "a message of the caller's"},
		{c.Generation != 0 && c.Generation < int(wire.Newest), "an older generation of the protocol"},
		{c.hasShares(), "shared directories"},
		{len(c.Taps) > 0 || c.hooks.Card, "a network card other than the user network's"},
		{c.Init != "", "an init of its own"},
		{c.hooks.Port != nil || c.PortSocket != "" || c.Survive != "", "a port that others use"},
		{len(c.hooks.ExtraWords)+len(c.Debug)+len(c.Hosts) > 0 || !c.Resolver.empty(), "words of its own for the kernel"},
		{len(c.Modules) > 0, "modules of its own"},
	} {
		if obstacle.there {
			return errors.New(obstacle.what)
		}
	}
	return nil
}

// mayWarm decides whether the machine may start from a template; cold then says why not. It
// is a [TemplateError] if it is news for somebody who wants a template.
func (l *layout) mayWarm(cfg Config) {
	accel := l.machine.Accel
	obstacle, earlier := cfg.whyCold(), l.whyCold(cfg)
	switch {
	case cfg.Warm == WarmAuto && accel != vmm.TCG: // No template is expected here, whatever the configuration says.
		l.cold = fmt.Errorf("templates with %v are used only when they are asked for", accel)
	case obstacle != nil && cfg.Warm != WarmNone, earlier != nil && cfg.Warm == WarmTry:
		l.cold = &TemplateError{cmp.Or(obstacle, earlier)}
	default:
		l.cold = cmp.Or(obstacle, earlier)
	}
}

func (r Resolver) empty() bool { return len(r.Servers)+len(r.Search)+len(r.Options) == 0 }

// hasShares reports whether the configuration asks for directories that the machine shares
// with the host.
func (c Config) hasShares() bool {
	return c.Root != "" || c.Runtime != "" || len(c.Shares)+len(c.Mounts) > 0
}

// smallDisks are the disks of a machine with the small root: its two layers, and the
// agent's. A root that is shared needs two devices.
const smallDisks = 3

// whyCold names what excludes a template for this machine's small root, or returns nil.
func (l *layout) whyCold(cfg Config) error {
	devices := smallDisks + len(cfg.Disks)
	if cfg.Network || cfg.hooks.Card {
		devices++
	}
	switch {
	case cfg.Image != "":
		return nil
	case l.hasFile("root"):
		return errors.New("a root directory of an earlier life")
	case devices > l.room && !l.hasFile("upper"):
		return errors.New("more disks than have room beside a template's")
	}
	return nil
}

// template returns the state from which the machine starts, or nil if it boots; cold
// then says why.
func (l *layout) template(ctx context.Context) *snapshot.State {
	if l.cold != nil || l.machine.Check() != nil { // The start reports an invalid machine.
		return nil
	}
	key, err := l.templateKey()
	if err == nil {
		var s *snapshot.State
		if s, err = l.useTemplate(ctx, key); err == nil {
			return s
		}
	}
	l.cold = err
	_, failed := errors.AsType[*snapshot.FailedError](err)
	_, small := errors.AsType[*snapshot.RoomError](err)
	if !errors.Is(err, snapshot.ErrBusy) && !failed && !small {
		l.cold = &TemplateError{err}
	}
	return nil
}

// useTemplate makes the template if there is none.
func (l *layout) useTemplate(ctx context.Context, key string) (*snapshot.State, error) {
	s, err := l.templates.Use(key)
	if err == nil {
		if err = l.checkClock(s.Manifest); err == nil {
			return s, nil
		}
		if err := errors.Join(s.Close(), l.templates.Remove(key)); err != nil {
			return nil, err
		}
		err = fs.ErrNotExist // No failure: a new template is made.
	}
	if _, damaged := errors.AsType[*snapshot.DamagedError](err); damaged || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m := snapshot.Manifest{
		Key: key, Kernel: l.machine.Kernel, CPUs: l.machine.CPUs, MemoryMiB: l.machine.MemoryMiB, TSCkHz: l.machine.TSCkHz,
	}
	err = l.templates.Make(ctx, m, func(ctx context.Context, files vmm.Saved) error {
		ctx, cancel := context.WithTimeout(ctx, slowDeadline)
		defer cancel()
		return vmm.Save(ctx, l.machine, vmm.Options{}, files)
	})
	if err != nil {
		return nil, err
	}
	return l.templates.Use(key)
}

// checkClock refuses a template that was made on a processor with another counter
// frequency.
func (l *layout) checkClock(m snapshot.Manifest) error {
	has := l.machine.TSCkHz
	if diff := m.TSCkHz - has; max(diff, -diff) > has/tscTolerance {
		return fmt.Errorf("its processor counts %d kHz, this one %d", m.TSCkHz, has)
	}
	return nil
}

// templateKey is the digest of everything that a machine must share with its template.
// QEMU itself checks only the number and kind of devices.
func (l *layout) templateKey() (string, error) {
	qemu, err := vmm.FindQEMU(l.machine.Architecture)
	if err != nil {
		return "", err
	}
	parts := append([]string{templateRecipe, strconv.Itoa(snapshot.Format)}, l.machine.StateArgs()...)
	files := []string{qemu, l.machine.Kernel}
	if l.machine.Initrd != "" {
		files = append(files, l.machine.Initrd)
	}
	for _, d := range l.machine.Disks {
		if d.Fixed {
			files = append(files, d.Path)
		}
	}
	for _, f := range files {
		id, err := vmm.FileID(f)
		if err != nil {
			return "", err
		}
		parts = append(parts, id)
	}
	parts = append(parts, vmm.ProcessorID())
	sum := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(p), p) // A hash never fails.
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// refuse removes a template that has failed.
func (l *layout) refuse(s *snapshot.State, why error) {
	l.cold = &TemplateError{errors.Join(why, l.templates.Refuse(s.Manifest.Key, why))}
}

// fresh returns the data that makes the machine differ from others that start from its
// template.
func fresh() *wire.Fresh {
	f := &wire.Fresh{UnixTimeNanos: uint64(time.Now().UnixNano())}
	_, _ = rand.Read(f.Entropy[:]) // It does not fail.
	return f
}

var (
	errSilent   = fmt.Errorf("%v are over", firstWord)
	errNotFresh = errors.New("the agent does not say that it has renewed its random generator: it is too old")
)

// listen returns a context that ends with errSilent if the machine does not send its
// first message in time. Time in which the machine has no processor of the host does
// not count.
func (m *Machine) listen(ctx context.Context) (listening context.Context, done func()) {
	listening, cancel := context.WithCancelCause(ctx)
	start, ended := time.Now(), make(chan struct{})
	m.loops.Go(func() {
		for wait := firstWord; wait > 0 && !m.spoke.Load(); wait = firstWord - (time.Since(start) - m.vm.Starved()) {
			timer := time.NewTimer(wait)
			select {
			case <-ended:
				timer.Stop()
				return
			case <-timer.C:
			}
		}
		if !m.spoke.Load() {
			cancel(errSilent)
		}
	})
	return listening, func() {
		close(ended)
		cancel(nil)
	}
}

// A faultError is a failed start whose cause is the template: QEMU has refused it, or
// the guest has sent nothing, it has a dead clock, or it has not renewed its random generator.
type faultError struct{ Err error }

func (e *faultError) Error() string { return e.Err.Error() }
func (e *faultError) Unwrap() error { return e.Err }

// blameBoot turns a dead clock of a machine from a template into a faultError: the template has
// the kernel's decision against its timer, so every machine from it is dead.
func blameBoot(err *BootError) error {
	if err.passing() == bootenv.DeadClock {
		return &faultError{err}
	}
	return err
}

// blame turns QEMU's refusal of a template into a faultError.
func blame(from *snapshot.State, err error) error {
	if refusal, ok := errors.AsType[*vmm.RefusedError](err); ok && from != nil {
		return &faultError{refusal}
	}
	return err
}
