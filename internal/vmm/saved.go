package vmm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PlaceholderBytes is the size of the disks of a template machine. No disk of a machine
// that starts from the template may be larger. The guest learns the true size of disks
// that it writes to; read-only disks keep this size.
const PlaceholderBytes = 64 << 30

// Saved holds the open files of a machine's state. The caller closes them.
type Saved struct {
	Memory *os.File // As large as the guest's memory.
	State  *os.File // The state of QEMU's devices; never a pipe, see [Save].
}

// A RefusedError says that QEMU did not start the machine from a saved state.
type RefusedError struct {
	Err    error
	Output string // QEMU's output.
}

// Error includes QEMU's last line, which says more than its exit status. A warning says
// less.
func (e *RefusedError) Error() string {
	line := lastLines(e.Output, 1)
	if line == "" || strings.HasPrefix(line, "warning: ") || strings.Contains(line, ": warning: ") {
		return e.Err.Error()
	}
	return line
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// An UnfitError says that a machine can neither be saved nor start from any saved
// state.
type UnfitError struct{ Err error }

func (e *UnfitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnfitError) Unwrap() error { return e.Err }

// Save boots the machine and waits until its agent has opened the port and waits for its host. It
// writes this state to the files: the memory while the guest runs, the rest at the end. Its disks
// are placeholders: the guest sees [PlaceholderBytes] of zeros in place of each disk that is not
// fixed. The machine may have no shares, because QEMU cannot write the state of their servers.
// After an error the files are useless.
//
// The state is in files, because QEMU 7.2 and 10 lose completions of a busy port when
// they must wait for the next bytes of a pipe.
func Save(ctx context.Context, m Machine, o Options, to Saved) (err error) {
	m = m.placeholders()
	if err := to.Memory.Truncate(int64(m.MemoryMiB) << 20); err != nil {
		return err
	}
	o.saving, o.From = &to, nil
	v, err := Start(ctx, m, o)
	if err != nil {
		return err
	}
	defer v.Kill() // Does nothing after the machine's end.
	if err := v.save(ctx, to.State); err != nil {
		return v.whyEnded(err)
	}
	return v.Quit(ctx)
}

// save writes the state to a file. It passes the file's descriptor to QEMU under a
// name, because QEMU accepts an inherited descriptor by number only for reading.
func (v *VM) save(ctx context.Context, to *os.File) error {
	if err := v.awaitPort(ctx); err != nil {
		return fmt.Errorf("wait for the agent to open its port: %w", err)
	}
	if err := v.qmp.execute(ctx, "stop"); err != nil {
		return err
	}
	const name = "state"
	err := v.qmp.callOnce(ctx, qmpCommand{Execute: "getfd", Arguments: map[string]string{"fdname": name}, file: to}, nil)
	if err != nil {
		return fmt.Errorf("qmp getfd: %w", err)
	}
	return v.migrate(ctx, "migrate", name)
}

// awaitPort waits until the guest has opened the agent's port.
func (v *VM) awaitPort(ctx context.Context) error {
	opened := v.qmp.watch(func(event string, data json.RawMessage) bool {
		var port struct {
			ID   string `json:"id"`
			Open bool   `json:"open"`
		}
		return event == "VSERPORT_CHANGE" && json.Unmarshal(data, &port) == nil && port.Open && port.ID == portID
	})
	defer v.qmp.unwatch(opened)
	var devices []struct {
		Label string `json:"label"`
		Open  bool   `json:"frontend-open"`
	}
	if err := v.qmp.call(ctx, "query-chardev", nil, &devices); err != nil {
		return err
	}
	for _, d := range devices {
		if d.Label == portID && d.Open {
			return nil
		}
	}
	return v.qmp.awaitEvent(ctx, opened)
}

// capability enables one of QEMU's migration capabilities.
type capability struct {
	Name string `json:"capability"`
	On   bool   `json:"state"`
}

// migrate makes QEMU write or read the state without the memory, and waits until that
// is done.
func (v *VM) migrate(ctx context.Context, command, fd string) error {
	on := map[string]any{"capabilities": []capability{{"x-ignore-shared", true}, {"events", true}}}
	if err := v.qmp.call(ctx, "migrate-set-capabilities", on, nil); err != nil {
		return err
	}
	var status string // Written before the event is seen.
	ended := v.qmp.watch(func(event string, data json.RawMessage) bool {
		var m struct {
			Status string `json:"status"`
		}
		if event != "MIGRATION" || json.Unmarshal(data, &m) != nil {
			return false
		}
		status = m.Status
		return status == "completed" || status == "failed" || status == "cancelled"
	})
	defer v.qmp.unwatch(ended)
	if err := v.qmp.call(ctx, command, map[string]string{"uri": "fd:" + fd}, nil); err != nil {
		return err
	}
	if err := v.qmp.awaitEvent(ctx, ended); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	if status != "completed" {
		return fmt.Errorf("qmp %s: %s: %w", command, status, v.whyFailed(ctx))
	}
	return nil
}

// whyFailed asks QEMU why a migration has failed.
func (v *VM) whyFailed(ctx context.Context) error {
	var info struct {
		Why string `json:"error-desc"`
	}
	if err := v.qmp.call(ctx, "query-migrate", nil, &info); err != nil {
		return err
	}
	if info.Why == "" {
		return errors.New("qemu does not say why")
	}
	return errors.New(info.Why)
}

// restore loads the state into the machine and starts its processors.
func (v *VM) restore(ctx context.Context, m Machine, fd int) error {
	err := v.migrate(ctx, "migrate-incoming", strconv.Itoa(fd))
	if err == nil {
		err = v.activate(ctx)
	}
	if err == nil {
		err = v.resize(ctx, m.Disks)
	}
	if err == nil {
		err = v.qmp.execute(ctx, "cont")
	}
	if refusal, ok := errors.AsType[*QMPError](err); ok && strings.Contains(refusal.Desc, " lock") {
		return &HeldError{Disk: firstWritable(m.Disks)}
	}
	if err != nil {
		return v.refused(err)
	}
	return nil
}

// activate takes the disks over from the machine that was saved, which takes their locks.
// QEMU 10 does it only when it is asked or with cont, and resizes no disk before; an older
// one has no such command, and has done it.
func (v *VM) activate(ctx context.Context) error {
	err := v.qmp.call(ctx, "blockdev-set-active", map[string]any{"active": true}, nil)
	if refusal, ok := errors.AsType[*QMPError](err); ok && refusal.Class == "CommandNotFound" {
		return nil
	}
	return err
}

// resize tells the guest the true sizes of the disks that it writes to; it knows only
// the placeholders' size. QEMU refuses to resize read-only disks.
func (v *VM) resize(ctx context.Context, disks []Disk) error {
	for i, d := range disks {
		if d.ReadOnly {
			continue
		}
		info, err := os.Stat(d.Path)
		if err != nil {
			return err
		}
		if err := v.ResizeDisk(ctx, i, info.Size()); err != nil {
			return err
		}
	}
	return nil
}

// ResizeDisk gives a disk of [Machine.Disks] another size, in bytes: its file, and what the
// guest sees. It is for disks that the machine can write to.
func (v *VM) ResizeDisk(ctx context.Context, disk int, size int64) error {
	return v.qmp.call(ctx, "block_resize", map[string]any{"node-name": diskID(disk), "size": size}, nil)
}

// refused makes a RefusedError with the output of QEMU, which ends when it cannot load a
// state.
func (v *VM) refused(err error) error {
	err = v.whyEnded(err)
	return &RefusedError{Err: err, Output: string(v.qemu.output.Bytes())}
}

// whyEnded returns the error of QEMU's end, if it has ended, instead of the error of a
// link.
func (v *VM) whyEnded(err error) error {
	if errors.Is(err, errQMPEnd) && v.qemu.ended(2*pipeDelay) && v.qemu.err != nil {
		return v.qemu.err
	}
	return err
}

// placeholders returns the machine with placeholders instead of disk files.
func (m Machine) placeholders() Machine {
	disks := make([]Disk, len(m.Disks))
	for i, d := range m.Disks {
		disks[i] = d
		if !d.Fixed {
			disks[i] = Disk{Path: "/placeholder", Serial: d.Serial, ReadOnly: d.ReadOnly, placeholder: true}
		}
	}
	m.Disks = disks
	return m
}

// StateArgs returns the arguments on which a saved state depends. They omit what
// differs from run to run: the paths of disks, sockets and the kernel, and the
// frequency of the processor's clock. Store them with a state and compare them: QEMU
// also loads a state that was made with other arguments, but then the guest hangs.
func (m Machine) StateArgs() []string {
	m.Kernel, m.TSCkHz = "kernel", 0
	if m.Initrd != "" {
		m.Initrd = "initrd"
	}
	m = m.placeholders()
	for i, d := range m.Disks {
		if d.Fixed {
			m.Disks[i].Path = "/fixed"
		}
	}
	return m.QEMUArgs(inheritedPaths(m))
}

// checkSaved refuses machines that cannot be saved or restored.
func (o Options) checkSaved(m Machine) error {
	s := o.saved()
	switch {
	case s == nil:
		return nil
	case len(m.Shares) > 0:
		return &UnfitError{fmt.Errorf("machine: share %s: the state of a machine with shared directories cannot be saved", m.Shares[0].Tag)}
	}
	info, err := s.Memory.Stat()
	if err != nil {
		return err
	}
	if want := int64(m.MemoryMiB) << 20; info.Size() != want {
		return fmt.Errorf("saved memory of %d bytes: the machine has %d", info.Size(), want)
	}
	for _, d := range m.Disks {
		if err := d.checkSaved(); err != nil {
			return &UnfitError{fmt.Errorf("disk %s: %w", d.Path, err)}
		}
	}
	return nil
}

// checkSaved refuses a disk that a placeholder cannot represent.
func (d Disk) checkSaved() error {
	if d.placeholder || d.Fixed {
		return nil
	}
	if d.Format != Raw {
		return fmt.Errorf("format %v: a machine in a saved state has raw disks", d.Format)
	}
	info, err := os.Stat(d.Path)
	if err != nil {
		return err
	}
	if info.Size() > PlaceholderBytes {
		return fmt.Errorf("%d bytes: a machine in a saved state has disks of at most %d", info.Size(), int64(PlaceholderBytes))
	}
	return nil
}

// saved returns the state's files, or nil if the machine boots normally.
func (o Options) saved() *Saved {
	if o.saving != nil {
		return o.saving
	}
	return o.From
}

func (o Options) savedFiles() []*os.File {
	if s := o.saved(); s != nil {
		return []*os.File{s.Memory, s.State}
	}
	return nil
}

// addMemory sets the memory's file, which is descriptor fd, and returns the descriptor
// of the state.
func (o Options) addMemory(run *RuntimePaths, fd int) (state int) {
	if o.saved() != nil {
		run.Memory = &Memory{FD: fd, Shared: o.saving != nil}
		run.Incoming = o.From != nil
	}
	return fd + 1
}
