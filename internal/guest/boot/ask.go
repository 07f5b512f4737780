package boot

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// An asking says how one kind of init is asked to end the machine. Every init is asked for
// a restart: that ends a machine on every monitor, a power-off does not (see life.End).
type asking struct {
	init string // The name of its program.
	why  string
	send func() error
}

// signalled asks by a signal.
func signalled(number int) func() error {
	return func() error { return sys.Kill(1, number) }
}

// The signals of the inits.
const (
	systemdReboot = 39 // SIGRTMIN+5 where SIGRTMIN is 34 (systemd(1), signal(7) for glibc); 38 would power off.
	openrcReboot  = int(syscall.SIGINT)
	// The reference agents ask every init by their SIGRTMIN+4, where SIGRTMIN is 35 (musl).
	referenceEnd = 39
	anyInit      = int(syscall.SIGTERM) // BusyBox (init/init.c): reboot. Others: what a script makes of it.
)

// scriptGrace is how long an init may act on the reference agents' signal before it gets
// SIGTERM too: half of the time that an init has.
const scriptGrace = 2 * time.Second

// initPipes are the pipes by which the init of System V takes requests (initctl(5)).
var initPipes = []string{"/run/initctl", "/dev/initctl"}

// askings are tried in order, the first whose init is PID 1.
func askings() []asking {
	return []asking{
		{"systemd", "its signal for a restart", signalled(systemdReboot)},
		{"openrc-init", "its signal for a restart", signalled(openrcReboot)},
	}
}

// AskInit asks PID 1 to end the machine and says what was done. When heard is closed the
// init has begun to end the machine, and AskInit asks nothing more.
func AskInit(heard <-chan struct{}) (what string, err error) {
	name := initName()
	for _, a := range askings() {
		if a.init == name {
			return name + ", by " + a.why, a.send()
		}
	}
	for _, pipe := range initPipes {
		if telInit(pipe) == nil {
			return name + ", by " + pipe, nil
		}
	}
	return askAnyInit(name, heard)
}

// askAnyInit asks an unknown init. It sends the reference agents' signal first, because
// scripts were written for that, and SIGTERM after scriptGrace. If the init does not
// handle the first, it sends SIGTERM at once.
func askAnyInit(name string, heard <-chan struct{}) (what string, err error) {
	if !listens(referenceEnd) {
		return name + ", by SIGTERM", sys.Kill(1, anyInit)
	}
	time.AfterFunc(scriptGrace, func() {
		select {
		case <-heard:
		default:
			_ = sys.Kill(1, anyInit) // It may be gone.
		}
	})
	return fmt.Sprintf("%s, by signal %d", name, referenceEnd), sys.Kill(1, referenceEnd)
}

// listens reports whether PID 1 handles a signal: it has a handler, or blocks the signal
// to wait for it (signalfd(2), sigwait(3)).
func listens(signal int) bool {
	status, err := os.ReadFile("/proc/1/status")
	return err == nil && (hasSignal(string(status), "SigCgt:", signal) || hasSignal(string(status), "SigBlk:", signal))
}

// hasSignal reports whether a mask of a status file has a signal (proc_pid_status(5)).
func hasSignal(status, mask string, signal int) bool {
	_, after, _ := strings.Cut("\n"+status, "\n"+mask)
	word, _, _ := strings.Cut(after, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(word), 16, 64)
	return err == nil && set>>(signal-1)&1 == 1
}

// initName is the name of the program that PID 1 executes, links resolved.
func initName() string {
	exe, err := os.Readlink("/proc/1/exe")
	if err != nil {
		return "init"
	}
	return strings.TrimSuffix(filepath.Base(exe), " (deleted)") // A program that was updated.
}

// The request of initctl(5): magic number, command, runlevel, sleep time, and a
// reserve up to 384 bytes.
const (
	initMagic    = 0x03091969
	initRunlevel = 1
	initRequest  = 384
	rebootLevel  = '6'
)

// telInit asks for the runlevel of the restart, if an init listens at the pipe.
func telInit(pipe string) error {
	info, err := os.Lstat(pipe)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeNamedPipe {
		return &os.PathError{Op: "write", Path: pipe, Err: syscall.EINVAL}
	}
	f, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // ENXIO without a reader.
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	request := make([]byte, initRequest)
	for i, word := range []uint32{initMagic, initRunlevel, rebootLevel} {
		binary.NativeEndian.PutUint32(request[4*i:], word)
	}
	_, err = f.Write(request)
	return err
}
