package vmm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The files in [Options.Lasting]. Their names are short, because a socket's path has at most
// 107 bytes (unix(7)).
const (
	lastingPort     = "port"
	lastingTerminal = "tty"
	lastingQMP      = "qmp"
	lastingOutput   = "out."    // FIFOs: what each virtiofsd (0 and up) prints, and then QEMU.
	lastingRecord   = "vm.json" // A [Left].
)

const (
	// closeWait bounds the wait until QEMU has noticed that the last host has gone.
	closeWait = 10 * time.Second
	closeLook = 20 * time.Millisecond

	// quiet is how long the guest must have been able to run without a host before the next
	// one opens the port: its kernel and its agent then have noticed that the last one went.
	quiet = 300 * time.Millisecond
)

// A Left describes a machine that outlives the process that started it.
type Left struct {
	Machine Machine   `json:"machine"` // As it runs.
	Program string    `json:"program"` // QEMU.
	Command string    `json:"command"` // See [VM.Command].
	QEMU    ProcessID `json:"qemu"`
	Shares  []Helper  `json:"shares,omitempty"`
}

// A Helper is one virtiofsd.
type Helper struct {
	Name string    `json:"name"`
	ID   ProcessID `json:"id"`
}

// A ProcessID identifies a process for ever: a number is used again, and it begins anew with
// each boot of the host.
type ProcessID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // In ticks after the boot of the host (proc_pid_stat(5), field 22).
	Boot  string `json:"boot"`  // The boot of the host.
}

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// identify returns the identity of a process that has not ended.
func identify(pid int) (id ProcessID, err error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return id, err
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return id, err
	}
	start, err := startOf(string(stat))
	if err != nil {
		return id, fmt.Errorf("process %d: %w", pid, err)
	}
	return ProcessID{pid, start, strings.TrimSpace(string(boot))}, nil
}

// errZombie says that only a process's status is left, which its parent has not taken.
var errZombie = errors.New("it has ended")

// startOf reads the time of a process's start. Its name stands in parentheses and may hold
// any byte.
func startOf(stat string) (uint64, error) {
	const state, start = 0, 19 // After the name.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= start {
		return 0, fmt.Errorf("stat of %d fields after the name", len(fields))
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return 0, errZombie
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

// runs reports whether the process has not ended.
func (id ProcessID) runs() bool {
	now, err := identify(id.PID)
	return err == nil && now == id
}

// errOther says that a process has ended; its number may be another's now.
var errOther = fmt.Errorf("it has ended: %w", os.ErrProcessDone)

// ReadLeft reads the record of the machine whose [Options.Lasting] was dir. The error is
// [fs.ErrNotExist] if there is none.
func ReadLeft(dir string) (*Left, error) {
	b, err := os.ReadFile(filepath.Join(dir, lastingRecord))
	if err != nil {
		return nil, err
	}
	l := &Left{}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, lastingRecord), err)
	}
	return l, nil
}

// Runs reports whether QEMU has not ended.
func (l *Left) Runs() bool { return l.QEMU.runs() }

// End ends the processes of a machine that nobody has taken over, like a power cut, and
// removes its files in dir.
func (l *Left) End(dir string) error {
	qemu, err := adoptProcess("qemu", l.QEMU, "", nil)
	if err == nil {
		qemu.stop(0)
	}
	for _, h := range l.Shares {
		if p, failed := adoptProcess(h.Name, h.ID, "", nil); failed == nil {
			p.stop(helperGrace)
		}
	}
	if l.Runs() {
		return fmt.Errorf("qemu (pid %d) cannot be killed: %w", l.QEMU.PID, err)
	}
	removeLasting(dir)
	return nil
}

// removeLasting removes the files of a machine that has ended.
func removeLasting(dir string) {
	outputs, _ := filepath.Glob(filepath.Join(dir, lastingOutput+"*")) // A directory with a meta character keeps empty FIFOs.
	for _, name := range []string{lastingPort, lastingTerminal, lastingQMP, lastingRecord} {
		outputs = append(outputs, filepath.Join(dir, name))
	}
	for _, path := range outputs {
		_ = os.Remove(path)
	}
}

// remember writes the record of a machine that has just been started.
func (v *VM) remember() error {
	if v.lasting == "" {
		return nil
	}
	l := Left{Machine: v.machine, Program: v.program, Command: v.command}
	var err error
	if l.QEMU, err = identify(v.Pid()); err != nil {
		return err
	}
	for _, h := range v.helpers {
		id, err := identify(h.pid)
		if err != nil {
			return err
		}
		l.Shares = append(l.Shares, Helper{h.name, id})
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	path := filepath.Join(v.lasting, lastingRecord)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Adopt takes over the machine whose [Options.Lasting] was dir, after the process that
// started it has ended. Of the options only the console's are used. The agent's port is not
// open yet: see [VM.OpenPort]. After an error the machine goes on as before.
//
// QEMU and virtiofsd are no children of this process. So [VM.Wait] returns nil if QEMU has
// said that it shuts down, and otherwise an error without QEMU's status.
func Adopt(ctx context.Context, dir string, o Options) (_ *VM, err error) {
	l, err := ReadLeft(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	v := &VM{command: l.Command, machine: l.Machine, program: l.Program, lasting: dir, done: make(chan struct{})}
	var u undo
	defer func() {
		if err != nil {
			u.run()
		}
	}()
	if err := v.adoptAll(l, &u); err != nil {
		return nil, err
	}
	if err := v.hold(l.Machine, o, &u); err != nil {
		return nil, err
	}
	if err := v.adoptLinks(ctx, o, &u); err != nil {
		return nil, err
	}
	v.nursery = newNursery("")
	go v.watch()
	return v, nil
}

// adoptAll takes over the processes, whose outputs have the order of launch.
func (v *VM) adoptAll(l *Left, u *undo) (err error) {
	if v.mon.process, err = adoptProcess("qemu", l.QEMU, outputPath(v.lasting, len(l.Shares)), make(chan struct{})); err != nil {
		return fmt.Errorf("qemu (pid %d): %w", l.QEMU.PID, err)
	}
	u.push(v.mon.release)
	for i, h := range l.Shares {
		p, err := adoptProcess(h.Name, h.ID, outputPath(v.lasting, i), nil)
		if err != nil {
			return fmt.Errorf("%s (pid %d): %w", h.Name, h.ID.PID, err)
		}
		u.push(p.release)
		v.helpers = append(v.helpers, p)
	}
	return nil
}

func outputPath(dir string, i int) string { return filepath.Join(dir, lastingOutput+strconv.Itoa(i)) }

// adoptLinks connects to QEMU's control link and to the console.
func (v *VM) adoptLinks(ctx context.Context, o Options, u *undo) error {
	control, err := v.dial(ctx, lastingQMP)
	if err != nil {
		return err
	}
	u.push(func() { _ = control.Close() })
	if v.mon.qmp, err = newQMP(ctx, control); err != nil {
		return fmt.Errorf("qmp: %w", err)
	}
	v.mon.process.verdict = v.mon.qmp.verdict
	close(v.mon.process.judged)
	if v.console, err = continueConsole(o); err != nil {
		return err
	}
	if v.terminal, err = v.dial(ctx, lastingTerminal); err != nil {
		return errors.Join(err, v.console.close())
	}
	go v.console.pump(v.terminal)
	u.push(func() { _ = v.terminal.Close() })
	return nil
}

func (v *VM) dial(ctx context.Context, name string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(v.lasting, name))
}

// OpenPort opens the agent's port of a machine that was adopted, after the guest has had the
// time to notice that the last host has gone. A later call closes the port first.
func (v *VM) OpenPort(ctx context.Context) (net.Conn, error) {
	if v.port != nil {
		_ = v.port.Close() // What it has carried counts no more.
	}
	if err := v.awaitClosed(ctx); err != nil {
		return nil, err
	}
	conn, err := v.dial(ctx, lastingPort)
	if err != nil {
		return nil, err
	}
	v.port = conn
	return conn, nil
}

// awaitClosed waits until QEMU has told the guest that no host is there, and the guest has
// been able to run for a while. There is no event for either.
func (v *VM) awaitClosed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	tick := time.NewTicker(closeLook)
	defer tick.Stop()
	var since time.Time
	var starved time.Duration
	for {
		if since.IsZero() {
			free, err := v.mon.portFree(ctx)
			if err != nil {
				return err
			}
			if free {
				since, starved = time.Now(), v.Starved()
			}
		} else if time.Since(since)-(v.Starved()-starved) >= quiet {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the agent's port: another host has it: %w", ctx.Err())
		}
	}
}

// portFree reports whether no host has the agent's port.
func (q monitor) portFree(ctx context.Context) (bool, error) {
	var all []struct {
		Label    string `json:"label"`
		Filename string `json:"filename"`
	}
	if err := q.qmp.call(ctx, "query-chardev", nil, &all); err != nil {
		return false, err
	}
	for _, c := range all {
		if c.Label == agentChardev {
			return strings.HasPrefix(c.Filename, "disconnected:"), nil
		}
	}
	return false, fmt.Errorf("qemu has no character device %q: %w", agentChardev, fs.ErrNotExist)
}

// Abandon leaves an adopted machine to the next process.
func (v *VM) Abandon() {
	v.mon.release()
	for _, h := range v.helpers {
		h.release()
	}
	_, _ = v.mon.qmp.close(), v.terminal.Close() // The machine goes on without them.
	if v.port != nil {
		_ = v.port.Close()
	}
	v.letGo()
}
