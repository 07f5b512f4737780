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
// that starts from the template may be larger, unless the guest looks at it anew
// ([Disk.Anew]). The guest learns the true size of disks that it writes to; read-only disks
// keep this size.
const PlaceholderBytes = 64 << 30

// Saved holds the open files of a machine's state. The caller closes them.
type Saved struct {
	// Memory is as large as the guest's memory. It is nil if State holds the memory too,
	// as after [VM.Capture]; the disks are then as they were.
	Memory *os.File
	State  *os.File // The state of QEMU's devices; never a pipe, see [Save].

	// Named says that the machine's memory has a name of its own in State; see
	// [VM.Named].
	Named bool

	// Version is what [VM.Version] was; "" is not compared.
	Version string
}

// memory says where the memory is.
func (s *Saved) memory() where {
	if s.Memory == nil {
		return memoryInState
	}
	return memoryApart
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
	if err := v.mon.save(ctx, to.State); err != nil {
		return v.mon.whyEnded(err)
	}
	return v.Quit(ctx)
}

// save writes the state to a file. It passes the file's descriptor to QEMU under a
// name, because QEMU accepts an inherited descriptor by number only for reading.
func (q monitor) save(ctx context.Context, to *os.File) error {
	if err := q.awaitPort(ctx); err != nil {
		return fmt.Errorf("wait for the agent to open its port: %w", err)
	}
	if err := q.qmp.execute(ctx, "stop"); err != nil {
		return err
	}
	return q.writeState(ctx, to, memoryApart)
}

// writeState writes the state of a stopped machine to a file.
func (q monitor) writeState(ctx context.Context, to *os.File, memory where) error {
	const name = "state"
	err := q.qmp.callOnce(ctx, qmpCommand{Execute: "getfd", Arguments: map[string]string{"fdname": name}, file: to}, nil)
	if err != nil {
		return fmt.Errorf("qmp getfd: %w", err)
	}
	return q.migrate(ctx, "migrate", name, memory)
}

// awaitPort waits until the guest has opened the agent's port.
func (q monitor) awaitPort(ctx context.Context) error {
	opened := q.qmp.watch(func(event string, data json.RawMessage) bool {
		var port struct {
			ID   string `json:"id"`
			Open bool   `json:"open"`
		}
		return event == "VSERPORT_CHANGE" && json.Unmarshal(data, &port) == nil && port.Open && port.ID == portID
	})
	defer q.qmp.unwatch(opened)
	var devices []struct {
		Label string `json:"label"`
		Open  bool   `json:"frontend-open"`
	}
	if err := q.qmp.call(ctx, "query-chardev", nil, &devices); err != nil {
		return err
	}
	for _, d := range devices {
		if d.Label == portID && d.Open {
			return nil
		}
	}
	return q.qmp.awaitEvent(ctx, opened)
}

// capability enables one of QEMU's migration capabilities.
type capability struct {
	Name string `json:"capability"`
	On   bool   `json:"state"`
}

// where says where a state has the memory.
type where bool

const (
	memoryApart   where = false // In a file of its own.
	memoryInState where = true  // In the state.
)

// unlimited is a bandwidth in bytes per second that no disk has. QEMU 7.2 writes 128 MiB
// per second without one.
const unlimited = 64 << 30

// migrate makes QEMU write or read the state, and waits until that is done.
func (q monitor) migrate(ctx context.Context, command, fd string, memory where) error {
	on := map[string]any{"capabilities": []capability{{"x-ignore-shared", memory == memoryApart}, {"events", true}}}
	if err := q.qmp.call(ctx, "migrate-set-capabilities", on, nil); err != nil {
		return err
	}
	if err := q.qmp.call(ctx, "migrate-set-parameters", map[string]int64{"max-bandwidth": unlimited}, nil); err != nil {
		return err
	}
	ended, status := q.watchMigration()
	defer q.qmp.unwatch(ended)
	if err := q.qmp.call(ctx, command, map[string]string{"uri": "fd:" + fd}, nil); err != nil {
		return err
	}
	if err := q.qmp.awaitEvent(ctx, ended); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	if *status != "completed" {
		return fmt.Errorf("qmp %s: %s: %w", command, *status, q.whyFailed(ctx))
	}
	return nil
}

// watchMigration returns a watcher for the end of a migration. The status is written
// before the event is seen.
func (q monitor) watchMigration() (ended *watcher, status *string) {
	status = new(string)
	return q.qmp.watch(func(event string, data json.RawMessage) bool {
		var m struct {
			Status string `json:"status"`
		}
		if event != "MIGRATION" || json.Unmarshal(data, &m) != nil {
			return false
		}
		*status = m.Status
		return *status == "completed" || *status == "failed" || *status == "cancelled"
	}), status
}

// whyFailed asks QEMU why a migration has failed.
func (q monitor) whyFailed(ctx context.Context) error {
	var info struct {
		Why string `json:"error-desc"`
	}
	if err := q.qmp.call(ctx, "query-migrate", nil, &info); err != nil {
		return err
	}
	if info.Why == "" {
		return errors.New("qemu does not say why")
	}
	return errors.New(info.Why)
}

// restore loads the state into the machine and starts its processors.
func (q monitor) restore(ctx context.Context, m Machine, from *Saved, fd int) error {
	err := q.checkVersion(ctx, from.Version)
	if err == nil {
		err = q.migrate(ctx, "migrate-incoming", strconv.Itoa(fd), from.memory())
	}
	if err == nil {
		err = q.activate(ctx)
	}
	if err == nil && from.memory() == memoryApart { // Its disks were placeholders.
		err = q.resize(ctx, m.Disks)
	}
	if err == nil {
		err = q.qmp.execute(ctx, "cont")
	}
	if refusal, ok := errors.AsType[*QMPError](err); ok && strings.Contains(refusal.Desc, " lock") {
		return &HeldError{Disk: firstWritable(m.Disks)}
	}
	if err != nil {
		return q.refused(err)
	}
	return nil
}

// checkVersion refuses a state of another QEMU: QEMU itself loads some of them, and the
// guest hangs.
func (q monitor) checkVersion(ctx context.Context, want string) error {
	if want == "" {
		return nil
	}
	is, err := q.version(ctx)
	if err == nil && is != want {
		err = fmt.Errorf("it was made with QEMU %s, and here is %s: a machine goes on only with the same one", want, is)
	}
	return err
}

// activate takes the disks over from the machine that was saved, which takes their locks.
// QEMU 10 does it only when it is asked or with cont, and resizes no disk before; an older
// one has no such command, and has done it.
func (q monitor) activate(ctx context.Context) error {
	err := q.qmp.call(ctx, "blockdev-set-active", map[string]any{"active": true}, nil)
	if refusal, ok := errors.AsType[*QMPError](err); ok && refusal.Class == "CommandNotFound" {
		return nil
	}
	return err
}

// resize tells the guest the true sizes of the disks that it writes to; it knows only
// the placeholders' size. QEMU refuses to resize read-only disks.
func (q monitor) resize(ctx context.Context, disks []Disk) error {
	for i, d := range disks {
		if d.ReadOnly || d.Anew {
			continue
		}
		info, err := os.Stat(d.Path)
		if err != nil {
			return err
		}
		if err := q.resizeDisk(ctx, i, info.Size()); err != nil {
			return err
		}
	}
	return nil
}

// ResizeDisk gives a disk of [Machine.Disks] another size, in bytes: its file, and what the
// guest sees. It is for disks that the machine can write to.
func (v *VM) ResizeDisk(ctx context.Context, disk int, size int64) error {
	return v.monitor().resizeDisk(ctx, disk, size)
}

func (q monitor) resizeDisk(ctx context.Context, disk int, size int64) error {
	return q.qmp.call(ctx, "block_resize", map[string]any{"node-name": diskID(disk), "size": size}, nil)
}

// refused makes a RefusedError with the output of QEMU, which ends when it cannot load a
// state.
func (q monitor) refused(err error) error {
	err = q.whyEnded(err)
	return &RefusedError{Err: err, Output: string(q.process.output.Bytes())}
}

// whyEnded returns the error of QEMU's end, if it has ended, instead of the error of a
// link.
func (q monitor) whyEnded(err error) error {
	if errors.Is(err, errQMPEnd) && q.ended(2*pipeDelay) && q.err != nil {
		return q.err
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
	case s.Memory == nil:
		return nil
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
	if d.placeholder || d.Fixed || d.Anew {
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
	s := o.saved()
	switch {
	case s == nil:
		return nil
	case s.Memory == nil:
		return []*os.File{s.State}
	}
	return []*os.File{s.Memory, s.State}
}

// addMemory sets the memory's file, which is descriptor fd, and returns the descriptor
// of the state.
func (o Options) addMemory(run *RuntimePaths, fd int) (state int) {
	s := o.saved()
	if s == nil {
		return fd
	}
	run.Incoming = o.From != nil
	if s.Memory == nil {
		if s.Named {
			run.Memory = &Memory{}
		}
		return fd
	}
	run.Memory = &Memory{FD: fd, Shared: o.saving != nil}
	return fd + 1
}
