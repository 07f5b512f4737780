package life_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/life"
	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// enough is for anything in these tests, on a busy host.
const enough = 60 * time.Second

// TestMain lets the test binary be the launcher, as agentd's main does.
func TestMain(m *testing.M) {
	if os.Args[0] == proc.LauncherName {
		os.Exit(proc.Launch(os.Args))
	}
	os.Exit(m.Run())
}

// A guest is a life in the namespaces of a test, and the host's end of its port.
type guest struct {
	*testing.T
	host net.Conn
	end  chan error // Of one element: what Run returns.
}

// start begins a life as the first process of the test's namespaces, with a tmpfs in
// place of the share.
func start(t *testing.T, environ map[string]string) *guest {
	t.Helper()
	nstest.RequireUsers(t) // A user namespace mounts no devtmpfs.
	nstest.Root(t)
	t.Setenv("AGENTD_SHARE", "tmpfs")
	for name, value := range environ {
		t.Setenv(name, value)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(ends[1]), "host")
	host, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	l := life.New("test")
	l.Open = func(name string, _ time.Time) (*sys.Port, error) {
		if name != "agent" {
			return nil, errors.New("no port " + name)
		}
		return sys.InheritPort(uintptr(ends[0])), nil
	}
	g := &guest{T: t, host: host, end: make(chan error, 1)}
	go func() { g.end <- l.Run() }()
	t.Cleanup(func() { _ = host.Close() })
	return g
}

func (g *guest) boot(h client.Handshake) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(g.Context(), enough)
	defer cancel()
	return client.Boot(ctx, g.host, h)
}

// ends waits for the end, which must be an error with the words, or none.
func (g *guest) ends(words string) {
	g.Helper()
	select {
	case err := <-g.end:
		if (err != nil) != (words != "") || err != nil && !strings.Contains(err.Error(), words) {
			g.Errorf("the life ended with %v, want %q", err, words)
		}
	case <-time.After(enough):
		g.Fatal("the life does not end")
	}
}

// onData lists the file systems at /data.
func onData(t *testing.T) (types []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[1] == "/data" {
			types = append(types, f[2])
		}
	}
	return types
}

// A machine boots as its host says, runs a command, and leaves nothing mounted and
// nobody running at its end.
func TestRun(t *testing.T) {
	nstest.Run(t, func() {
		g := start(t, nil)
		hostname, user := "box", "alice"
		b := &wire.Bootstrap{
			Hostname: &hostname, User: &user,
			TmpfsMounts: []wire.TmpfsMount{{Path: "/data"}},
		}
		var resolved wire.User
		c, err := g.boot(client.Handshake{Bootstrap: b, Resolved: func(u wire.User) {
			resolved = u
			if found := onData(t); len(found) != 0 {
				t.Errorf("%v on /data before the host's word", found)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if r := c.Agent(); resolved.UID != 1000 || r.Version != "test" || r.Setup == 0 || r.Ready < r.Started {
			t.Errorf("user %+v, ready %+v", resolved, r)
		}
		if found := onData(t); len(found) != 1 || found[0] != "tmpfs" {
			t.Errorf("%v on /data", found)
		}
		out, err := c.Command("sh", "-c", "id -un; hostname; (sleep 1000 </dev/null >/dev/null 2>&1 &)").Output()
		if err != nil || string(out) != "alice\nbox\n" {
			t.Errorf("the command says %q, %v", out, err)
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		g.ends("")
		if found := onData(t); len(found) != 0 {
			t.Errorf("%v stays on /data", found)
		}
		nobodyIsLeft(t)
	})
}

// nobodyIsLeft collects what was killed, which may still be dying, and fails if it lives.
func nobodyIsLeft(t *testing.T) {
	t.Helper()
	const patience, pause = 10 * time.Second, 5 * time.Millisecond
	for start := time.Now(); ; time.Sleep(pause) {
		_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.ECHILD) {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("somebody is left: %v", err)
		}
	}
}

func TestUnknownUser(t *testing.T) {
	nstest.Run(t, func() {
		fails(t, &wire.Bootstrap{User: new("nobody-knows")}, "init failed: step handshake: ", "user_not_found")
	})
}

func TestRefusedMessage(t *testing.T) {
	nstest.Run(t, func() {
		fails(t, &wire.Bootstrap{Hostname: new("a\nb")}, "bootstrap validation failed: hostname: ", "unknown")
	})
}

// A guest that cannot be made fresh does not boot: it would have the numbers of others.
func TestNotFresh(t *testing.T) {
	nstest.Run(t, func() {
		fails(t, &wire.Bootstrap{Fresh: &wire.Fresh{UnixTimeNanos: 1 << 63}}, "bootstrap receive failed: fresh: unix_time_nanos 9223372036854775808: ", "unknown")
	})
}

func TestFailedStep(t *testing.T) {
	nstest.Run(t, func() {
		fails(t, &wire.Bootstrap{
			TmpfsMounts: []wire.TmpfsMount{{Path: "/data"}},
			DirMounts:   []wire.DirMount{{Tag: "none", GuestPath: "/data/shared"}},
		}, "init failed: step dir-mount: ", "unknown")
		if found := onData(t); len(found) != 0 {
			t.Errorf("%v stays on /data", found)
		}
	})
}

func TestMissingInit(t *testing.T) {
	nstest.Run(t, func() {
		fails(t, &wire.Bootstrap{HandoffInit: &wire.HandoffInit{Cmd: "/sbin/none"}}, "init failed: step handover: ", "unknown")
	})
}

// fails boots a machine that cannot be booted: the host is told why, by the phase.
func fails(t *testing.T, b *wire.Bootstrap, words, failure string) {
	t.Helper()
	g := start(t, nil)
	_, err := g.boot(client.Handshake{Bootstrap: b})
	refused, ok := errors.AsType[*client.InitError](err)
	if !ok || !strings.HasPrefix(refused.Message, words) || refused.Failure != failure {
		t.Errorf("the host hears %v, want %q of kind %s", err, words, failure)
	}
	g.ends(words)
}

// A host that configures by variables learns only of the end: it has no message for more.
func TestRefusedVariable(t *testing.T) {
	nstest.Run(t, func() {
		start(t, map[string]string{"MSB_SECURITY_PROFILE": "none"}).ends("config parse failed: MSB_SECURITY_PROFILE: ")
	})
}

func TestRefusedRoot(t *testing.T) {
	nstest.Run(t, func() {
		start(t, map[string]string{"AGENTD_ROOT": "virtiofs"}).ends("early init failed: AGENTD_ROOT=")
	})
}

// The end of the host is the end of the machine, in the handshake too.
func TestHostLeaves(t *testing.T) {
	nstest.Run(t, func() {
		g := start(t, map[string]string{"MSB_HOSTNAME": "box"})
		c, err := g.boot(client.Handshake{})
		if err != nil {
			t.Fatal(err)
		}
		if c.Generation() >= 7 {
			t.Errorf("configured by variables, it speaks generation %d", c.Generation())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		g.ends("")
	})
}
