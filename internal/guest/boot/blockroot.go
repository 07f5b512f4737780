package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// blockRoot assembles the root and changes to it. It mounts the share and the kernel's
// file systems in the new root only: mounts in the old one would be lost.
func (m *Machine) blockRoot(s plan.BlockRoot) (err error) {
	// From here on the boot waits for disks, and the runtime's monitor would wake
	// during each wait. A boot without disks ends before this call would pay.
	if err := sys.RestWatcher(sys.BootSlack); err != nil { // An error costs time, nothing else.
		sys.Logf("%v", err)
	}
	if s.OCI != nil {
		err = m.layers(*s.OCI)
	} else {
		err = m.mountDisk(*s.DiskImage)
	}
	if err != nil {
		return err
	}
	for _, mount := range plan.KernelTrees() {
		if err := m.root.BindTree(mount.Target, plan.NewRoot+mount.Target, flags(mount.Flags)); err != nil {
			return err
		}
		m.undo = append(m.undo, undo{target: plan.NewRoot + mount.Target, kernel: true})
	}
	if err := m.root.BindDir(plan.ShareDir, plan.NewRoot+plan.ShareDir, 0); err != nil {
		return err
	}
	m.undo = append(m.undo, undo{target: plan.NewRoot + plan.ShareDir})
	return m.changeRoot()
}

// layers mounts an overlay of a lower that is only read and an upper.
func (m *Machine) layers(s plan.OCI) error {
	m.layered = true
	if err := m.layer(s.Lower); err != nil {
		return err
	}
	if err := m.upper(s.Upper); err != nil {
		return err
	}
	if s.Metrics {
		m.register(s.Upper.Target)
	}
	for _, dir := range s.Dirs {
		const perm = 0o755
		if err := m.root.MkdirAll(dir, perm); err != nil {
			return err
		}
	}
	return m.stack(s.Overlay)
}

// layer mounts one layer, on a disk or in memory.
func (m *Machine) layer(mount plan.Mount) error {
	if mount.Type == "tmpfs" {
		return m.stack(mount)
	}
	return m.mountDisk(mount)
}

// upper mounts the layer that takes the writes.
func (m *Machine) upper(mount plan.Mount) error {
	if err := m.layer(mount); err != nil {
		return err
	}
	if last := m.undo[len(m.undo)-1]; last.pin == nil && mount.Type != "tmpfs" {
		return fmt.Errorf("%s is read-only: the upper of the root has to be writable", mount.Source)
	}
	return nil
}

// changeRoot enters the new root. Mounts of the old root have no path then, so only their
// pins are left to undo them by.
func (m *Machine) changeRoot() error {
	if err := sys.SwitchRoot(plan.NewRoot); err != nil {
		return err
	}
	var kept []undo
	for _, u := range m.undo {
		switch {
		case u.pin != nil:
			kept = append(kept, undo{pin: u.pin})
			m.RootDisk = u.pin
		case u.kernel && !strings.HasPrefix(u.target, plan.NewRoot):
			kept = append(kept, u)
		}
	}
	kept = append(kept, undo{target: plan.ShareDir})
	m.undo = kept
	old := m.root
	var err error
	if m.root, err = sys.OpenRoot("/"); err != nil {
		m.root = old
		return err
	}
	return old.Close()
}

// The kernel's knob for the path of the upper appears with its device, maybe
// after PID 1 has started; the host's first number is 1 s late in any case.
const (
	knobDeadline = time.Second
	knobInterval = 100 * time.Millisecond
)

// register tells the kernel where the upper is, so that the host learns how full
// it is. A machine is as good without. The first attempt is made at once, with
// the path that hosts know; later ones run beside the boot, when that path may
// be gone with the old root, and go by a descriptor.
func (m *Machine) register(upper string) {
	knob, err := m.root.Open(plan.SysDir)
	if err != nil {
		sys.Logf("metrics of the upper: %v", err)
		return
	}
	name := strings.TrimPrefix(plan.MetricsPath, plan.SysDir)
	if err = knob.Poke(name, upper); errors.Is(err, fs.ErrNotExist) {
		var pin *sys.Root
		if pin, err = m.root.Open(upper); err == nil {
			m.late = newLateWork(func(stop <-chan struct{}) { registerLate(knob, name, pin, stop) })
			return
		}
	}
	if err = errors.Join(err, knob.Close()); err != nil {
		sys.Logf("metrics of the upper: %v", err)
	}
}

func registerLate(sysfs *sys.Root, name string, upper *sys.Root, stop <-chan struct{}) {
	defer func() { _ = errors.Join(sysfs.Close(), upper.Close()) }()
	tick := time.NewTicker(knobInterval)
	defer tick.Stop()
	for end := time.After(knobDeadline); ; {
		select {
		case <-tick.C:
		case <-end:
			return // Most kernels have no such knob: not worth a line.
		case <-stop:
			return
		}
		err := sysfs.Poke(name, upper.Path())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			sys.Logf("metrics of the upper: %v", err)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// A lateWork goes on after the boot, and holds mounts meanwhile. The way down ends it
// first, or they would be busy.
type lateWork struct {
	do         func(stop <-chan struct{})
	started    sync.Once
	stop, done chan struct{}
}

func newLateWork(do func(stop <-chan struct{})) *lateWork {
	return &lateWork{do: do, stop: make(chan struct{}), done: make(chan struct{})}
}

func (w *lateWork) start() {
	w.started.Do(func() {
		go func() {
			defer close(w.done)
			w.do(w.stop)
		}()
	})
}

// end returns when the work is over and holds nothing. Work that was never started,
// because the boot failed, is started to let go of what it holds.
func (w *lateWork) end() {
	close(w.stop)
	w.start()
	<-w.done
}
