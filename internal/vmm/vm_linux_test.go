package vmm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// greets is the beginning of a fake QEMU that gets through the handshake.
const greets = `echo '{"QMP": {}}' >&5; read -r _ <&5; echo '{"return": {}, "id": 1}' >&5
`

// writeScript writes a program for sh and returns its path.
func writeScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeShare is a share with a virtiofsd that writes its pid beside it and then
// does as told; it knows nothing of sockets.
func fakeShare(t *testing.T, then string) (s Share, program, pidFile string) {
	t.Helper()
	dir := t.TempDir()
	pidFile = filepath.Join(dir, "pid")
	program = writeScript(t, `[ "$1" = --help ] && echo "-o source=" && exit; echo $$ >`+pidFile+"; "+then)
	return Share{Tag: "data", Dir: dir}, program, pidFile
}

func fakeMachine(t *testing.T) Machine {
	t.Helper()
	return Machine{Kernel: writeScript(t, ""), CPUs: 1, MemoryMiB: 64, Accel: TCG}
}

func requireGone(t *testing.T, pidFile string) {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal("the fake virtiofsd was not started: ", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

// openFiles counts the descriptors of this process, after one start of everything
// that the runtime opens once.
func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// requireEmpty checks that no socket's name outlives its use.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the runtime directory: %v, %v", left, err)
	}
}

// TestStartUndoes breaks each part of a start in turn.
func TestStartUndoes(t *testing.T) {
	const long = 20 * time.Second
	waits := "for i in $(seq 100); do [ -s $PID ] && break; sleep 0.1; done; "
	for _, c := range []struct {
		name    string
		qemu    string // a script, or a path
		console string
		share   string
		started bool // the virtiofsd was
		limit   time.Duration
		want    []string
	}{
		{"console file", "exit 0", "/nowhere/console", "exec sleep 60", false, long, []string{"console file", "/nowhere"}},
		{"qemu cannot be executed", "/dev/null", "", "exec sleep 60", false, long, []string{"permission denied"}},
		{"qemu refuses", "echo boom >&2; exit 3", "", "exec sleep 60", true, long, []string{"exit status 3", "boom", "to repeat it by hand", "-kernel"}},
		{"qemu ends well too early", "exit 0", "", "exec sleep 60", true, long, []string{"qmp greeting", "unexpected EOF"}},
		{"qemu babbles", "echo babble >&5; exec sleep 60", "", "exec sleep 60", true, long, []string{"invalid character"}},
		{"qemu is silent", "exec sleep 60", "", "exec sleep 60", true, 2 * time.Second, []string{"deadline exceeded"}},
		{"virtiofsd refuses", "exit 1", "", "echo no such user >&2; exit 1", true, long, []string{"virtiofsd data: no such user"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime := t.TempDir()
			t.Setenv("XDG_RUNTIME_DIR", runtime)
			share, virtiofsd, pidFile := fakeShare(t, c.share)
			m := fakeMachine(t)
			m.Shares = []Share{share}
			qemu := c.qemu
			if !filepath.IsAbs(qemu) {
				qemu = writeScript(t, "PID="+pidFile+"; "+waits+c.qemu)
			}
			before := openFiles(t)
			_, err := Start(within(t, c.limit), m, Options{QEMU: qemu, Virtiofsd: virtiofsd, ConsoleFile: c.console})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
			if c.started {
				requireGone(t, pidFile)
			}
			requireEmpty(t, runtime)
			if after := openFiles(t); after > before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

func TestStartChecksFilesFirst(t *testing.T) {
	m := fakeMachine(t)
	m.Disks = []Disk{{Path: "/nowhere/disk"}}
	m.Shares = []Share{{Tag: "f", Dir: m.Kernel}}
	_, err := Start(t.Context(), m, Options{QEMU: "/nowhere/qemu"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/disk") || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("got %v, want both files", err)
	}
}

func startFake(t *testing.T, qemu string, o Options) *VM {
	t.Helper()
	o.QEMU = writeScript(t, qemu)
	v, err := Start(within(t, 10*time.Second), fakeMachine(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Kill)
	return v
}

func TestMachineEndsWell(t *testing.T) {
	var tap bytes.Buffer
	file := filepath.Join(t.TempDir(), "console")
	v := startFake(t, greets+"read -r line <&3; echo \"$line back\" >&3; echo printed >&4; exit 0", Options{ConsoleFile: file, Console: &tap})
	if _, err := io.WriteString(v.Port(), "there and\n"); err != nil {
		t.Fatal(err)
	}
	if err := v.Wait(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(v.Port())
	if string(got) != "there and back\n" || err != nil {
		t.Errorf("port: %q, %v", got, err)
	}
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"tail": string(v.Console()), "file": string(log), "tap": tap.String()} {
		if text != "printed\n" {
			t.Errorf("console %s: %q", what, text)
		}
	}
	if err := v.Port().Close(); err != nil {
		t.Error(err)
	}
}

func TestMachineEndsBadly(t *testing.T) {
	v := startFake(t, greets+"echo 'last words' >&4; echo complaint >&2; exit 7", Options{})
	err := v.Wait(within(t, 10*time.Second))
	exit, ok := errors.AsType[*ExitError](err)
	if !ok || exit.Code() != 7 || !strings.Contains(exit.Output, "complaint") || exit.Console != "last words\n" || exit.Command != v.Command() {
		t.Errorf("got %#v", err)
	}
}

func TestKill(t *testing.T) {
	v := startFake(t, greets+"exec sleep 60", Options{})
	if err := v.Wait(within(t, 10*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait on a running machine: %v", err)
	}
	v.Kill()
	select {
	case <-v.Done():
	default:
		t.Error("Kill returned before the end")
	}
	if exit, ok := errors.AsType[*ExitError](v.Wait(t.Context())); !ok || exit.Code() != -1 {
		t.Errorf("Wait after Kill: %v", exit)
	}
	v.Kill() // Again: nothing happens.
}

func TestQuitInsists(t *testing.T) {
	for _, c := range []struct {
		name, qemu string
		limit      time.Duration // of QMP
		code       int
	}{
		{"QMP", greets + "read -r _ <&5; echo '{\"return\": {}, \"id\": 2}' >&5; exit 4", 10 * time.Second, 4},
		{"SIGTERM", "trap 'exit 5' TERM\n" + greets + "while :; do sleep 0.05; done", 100 * time.Millisecond, 5},
		{"SIGKILL", "trap '' TERM\n" + greets + "while :; do sleep 0.05; done", 100 * time.Millisecond, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := startFake(t, c.qemu, Options{})
			err := v.Quit(within(t, c.limit))
			if exit, ok := errors.AsType[*ExitError](err); !ok || exit.Code() != c.code {
				t.Errorf("got %v, want code %d", err, c.code)
			}
		})
	}
}

// TestLostShareEndsTheMachine: the guest would hang on it for ever.
func TestLostShareEndsTheMachine(t *testing.T) {
	share, virtiofsd, _ := fakeShare(t, "echo crashed >&2; exit 0")
	m := fakeMachine(t)
	m.Shares = []Share{share}
	v, err := Start(within(t, 10*time.Second), m, Options{QEMU: writeScript(t, greets+"exec sleep 60"), Virtiofsd: virtiofsd})
	if err != nil {
		t.Fatal(err)
	}
	err = v.Wait(within(t, 10*time.Second))
	if !errors.Is(err, errExit) || !strings.Contains(err.Error(), "virtiofsd data: crashed") {
		t.Errorf("got %v", err)
	}
}
