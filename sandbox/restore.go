package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Restore continues a saved machine: a snapshot as a new machine, as often as wanted, or a
// paused machine, whose directory it then removes. All files are checked first. It refuses
// a machine that was saved with another QEMU, kernel or processor, or in another format.
//
// The machine's commands go on, and their clients are gone: input ends, output is
// discarded. Before they go on, the random generator is renewed, the clock is set, a
// snapshot's machine gets another boot id, and TCP connections with other hosts are reset.
// After an error nothing of the new machine is left, and the directory is as it was.
func Restore(ctx context.Context, dir string, cfg RestoreConfig) (_ *Machine, err error) {
	l, err := newLayout(cfg.Files)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.remove())
		}
	}()
	if l.dir, err = filepath.Abs(l.dir); err != nil {
		return nil, err
	}
	m, _, err := readSaved(dir)
	if err != nil {
		return nil, err
	}
	if m.Kind == snapshot.Pause {
		return restorePause(ctx, l, dir, cfg)
	}
	pause := filepath.Join(l.dir, "pause")
	how := CloneConfig{Hostname: cfg.Hostname, MachineID: cfg.MachineID, Cache: cfg.Cache}
	if _, err := Clone(ctx, dir, pause, l.dir, "", how); err != nil {
		return nil, err
	}
	machine, err := restorePause(ctx, l, pause, cfg)
	if err != nil {
		err = errors.Join(err, snapshot.Discard(pause))
	}
	return machine, err
}

// restorePause continues a paused machine, and then removes the directory.
func restorePause(ctx context.Context, l *layout, dir string, cfg RestoreConfig) (*Machine, error) {
	r := &restoring{RestoreConfig: cfg}
	var err error
	if r.saved, r.own, err = readSaved(dir); err != nil {
		return nil, err
	}
	relocate(&r.saved, r.own.Files, l.dir)
	if err := fits(&r.saved, "", nil); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	forgetInitrd(&r.saved.VM)
	state, err := r.saved.OpenFiles(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = state.Close() }() // Read only.
	m, err := r.start(ctx, l, &vmm.Saved{State: state, Named: r.saved.Named, Version: r.saved.Host.QEMU})
	if err != nil {
		return nil, err
	}
	if err := snapshot.Discard(dir); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	if r.own.Clone != nil {
		m.runHooks(ctx, r.log)
	}
	return m, nil
}

// forgetInitrd removes the machine's initramfs if the cache has it no longer: its content
// has been in the guest's memory since the boot.
func forgetInitrd(m *vmm.Machine) {
	if _, err := os.Stat(m.Initrd); errors.Is(err, fs.ErrNotExist) {
		m.Initrd = ""
	}
}

const (
	// hookDir has the guest's programs that run in a machine that begins in a snapshot.
	hookDir = "/.msb/restored.d"

	// hookTime is how long one of them may take; then it is killed.
	hookTime = 30 * time.Second
)

// runHooks runs the guest's programs for a new machine, in the order of their names. What
// fails is logged: the machine is of use without it.
func (m *Machine) runHooks(ctx context.Context, log func(string)) {
	all, err := m.client.FS().WithContext(ctx).ReadDir(strings.TrimPrefix(hookDir, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		log(hookDir + ": " + err.Error())
	}
	for _, e := range all {
		info, err := e.Info()
		if err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			continue
		}
		if err == nil {
			err = m.runHook(ctx, path.Join(hookDir, e.Name()))
		}
		if err != nil {
			log(path.Join(hookDir, e.Name()) + ": " + err.Error())
		}
	}
}

func (m *Machine) runHook(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	c := m.client.CommandContext(ctx, name)
	c.User = "root"
	return c.Run()
}

// restoring is a paused machine on its way.
type restoring struct {
	RestoreConfig
	saved snapshot.Machine
	own   savedMachine
}

// log tells the caller a line.
func (r *restoring) log(line string) {
	if r.Log != nil {
		r.Log(line)
	}
}

// start starts the machine.
func (r *restoring) start(ctx context.Context, l *layout, from *vmm.Saved) (*Machine, error) {
	l.machine, l.note = r.saved.VM, "using "+r.saved.VM.Accel.String()+", as before"
	vm, err := vmm.Start(ctx, l.machine, vmm.Options{Console: r.Console, ConsoleFile: r.ConsoleFile, From: from})
	if err != nil {
		return nil, err
	}
	m := &Machine{vm: vm, layout: l, warm: true}
	m.spoke.Store(true)
	m.saving.config, m.saving.link = r.own.Config, r.own.Link
	if err := r.goOn(ctx, m); err != nil {
		m.vm.Kill()
		m.disconnect()
		return nil, err
	}
	return m, nil
}

// goOn takes the guest over, which is frozen, and lets it go on.
func (r *restoring) goOn(ctx context.Context, m *Machine) error {
	h, err := r.own.Link.handshake()
	if err != nil {
		return err
	}
	h.machine, h.from = m, &r.own.Cut
	h.Link = m.vm.Port()
	if m.layout.machine.Records {
		h.records = m.vm.Records()
	}
	m.saving.frozen.Store(true)
	start := time.Now()
	err = m.relayTo(Config{Socket: r.Socket, Log: r.Log}, h, func() error {
		return m.thaw(ctx, r.own.Attempt, wire.ThawRestore, r.renew())
	})
	if err != nil {
		return err
	}
	m.timings.Ready = time.Since(start)
	m.loops.Go(func() { keepTime(m.vm.Done(), m.starved, m.tellTime) })
	return nil
}

// renew is what the guest changes before its commands go on.
func (r *restoring) renew() *wire.Renew {
	n := &wire.Renew{Fresh: *fresh(), Disconnect: r.saved.VM.Network}
	if c := r.own.Clone; c != nil {
		n.Twin, n.Hostname, n.MachineID = true, optional(c.Hostname), optional(c.MachineID)
	}
	return n
}

// handshake is the result of the handshake that the guest once had with its first host.
func (l link) handshake() (*handshake, error) {
	f, err := frame.NewReader(bytes.NewReader(l.Ready)).Next()
	if err != nil {
		return nil, fmt.Errorf("core.ready: %w", err)
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return nil, fmt.Errorf("core.ready: %w", err)
	}
	m, err := wire.Decode(e)
	if err != nil {
		return nil, fmt.Errorf("core.ready: %w", err)
	}
	ready, ok := m.(*wire.Ready)
	if !ok {
		return nil, fmt.Errorf("core.ready: it is %s", e.Type)
	}
	return &handshake{Greeting: &client.Greeting{Ready: *ready, Generation: l.Generation, Frame: l.Ready}, leased: l.Leased}, nil
}
