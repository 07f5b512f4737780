package nstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// inside names the test that the copy is started for.
	inside = "AGENTD_NSTEST"
	// rootVariable names the directory where Root mounts its root. It is the
	// parent's: a copy that has entered its root can remove nothing outside.
	rootVariable = "AGENTD_NSTEST_ROOT"
	// require makes skips failures.
	require = "AGENTD_REQUIRE_NAMESPACES"

	// limit bounds one test in its namespaces: the slowest takes a few seconds
	// with the race detector on a busy machine.
	limit = 2 * time.Minute

	// longLimit bounds it when long trials are asked for (AGENTD_LONG=1).
	longLimit = 30 * time.Minute
)

// Run runs f as PID 1 of fresh namespaces. It is all that a top-level test does;
// f is the rest of the test, goes on with the same t and may have subtests.
func Run(t *testing.T, f func()) {
	t.Helper()
	if strings.Contains(t.Name(), "/") {
		t.Fatal("nstest.Run is for top-level tests: the copy is started with -test.run of the name")
	}
	if os.Getenv(inside) == t.Name() {
		privateMounts(t)
		f()
		return
	}
	out, err := again(t)
	switch {
	case err == nil && strings.Contains(out, "--- SKIP: "+t.Name()+" "):
		t.Skip(out)
	case err == nil && strings.Contains(out, "--- PASS: "+t.Name()+" "):
		if testing.Verbose() {
			t.Log(out)
		}
	case refused(err) && out == "":
		unavailable(t, err)
	default: // Also a copy that ended well without a word.
		t.Fatalf("in namespaces: %v\n%s", err, out)
	}
}

// again runs the copy to its end.
func again(t *testing.T) (out string, err error) {
	t.Helper()
	limit := limit
	if os.Getenv("AGENTD_LONG") == "1" {
		limit = longLimit
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+limit.String())
	cmd.Args[0] = os.Args[0]
	// The race detector would sleep a second at the end of each copy.
	cmd.Env = append(os.Environ(), inside+"="+t.Name(), rootVariable+"="+t.TempDir(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	cmd.SysProcAttr = namespaces()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is given up with the goroutine: it is no longer like the
		// others. It lives as long as the copy, because Pdeathsig tells of the
		// thread's end, not of the process's.
		runtime.LockOSThread()
		if err = dropOutside(); err != nil {
			return
		}
		var b []byte
		b, err = cmd.CombinedOutput()
		out = string(b)
	}()
	<-done
	return out, err
}

func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// dropOutside takes from the calling thread, and from what it starts, the
// capabilities (capabilities(7)) that no namespace holds in.
func dropOutside() error {
	if os.Getuid() != 0 {
		return nil // What a user namespace gives ends at its border.
	}
	const (
		capbsetDrop = 24 // PR_CAPBSET_DROP, prctl(2).
		sysModule   = 16
		sysRawIO    = 17
		sysBoot     = 22
		sysTime     = 25
		wakeAlarm   = 35
	)
	for _, capability := range []uintptr{sysModule, sysRawIO, sysBoot, sysTime, wakeAlarm} {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, capbsetDrop, capability, 0); errno != 0 {
			return fmt.Errorf("drop capability %d: %w", capability, errno)
		}
	}
	return nil
}

// privateMounts keeps mounts from propagating out of the namespace, and mounts a /proc
// with the namespace's own processes.
func privateMounts(t *testing.T) {
	t.Helper()
	must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), "make mounts private")
	must(t, syscall.Mount("proc", "/proc", "proc", 0, ""), "mount /proc")
}

// RequireUsers skips the test where there is only one user id: in a user
// namespace made without privileges.
func RequireUsers(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/uid_map")
	must(t, err, "read uid map")
	if f := strings.Fields(string(b)); len(f) < 3 || f[2] == "1" {
		t.Skip("needs real user ids: run as root")
	}
}

// must fails the test, or skips it if the namespaces allow less than it needs.
func must(t *testing.T, err error, what string) {
	t.Helper()
	switch {
	case err == nil:
	case refused(err) && os.Getuid() == 0 && inUserNamespace():
		unavailable(t, fmt.Errorf("%s: %w", what, err))
	default:
		t.Fatalf("%s: %v", what, err)
	}
}

func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	const whole = "4294967295" // The first namespace maps every id.
	return err == nil && !strings.Contains(string(b), whole)
}

func refused(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EINVAL, syscall.ENOSYS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func unavailable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv(require) == "1" {
		t.Fatalf("namespaces are required and refused: %v", err)
	}
	t.Skipf("namespaces are refused: %v", err)
}
