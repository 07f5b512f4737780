package suite

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }

// inittab has a job at the end, which tells an end by the init from any other.
const inittab = "::sysinit:/bin/touch /up\n::respawn:/bin/sleep 1000\n::shutdown:/bin/touch /down\n"

// BusyBox as init ends the machine when the host or somebody inside asks.
//
//holds:boot 26: with an init: its own way to end
func TestHandoverBusybox(t *testing.T) {
	ownOnly(t, needsHandover)
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		for _, way := range []string{"shutdown", "poweroff", "reboot"} {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				root := vmtest.Root(t)
				plant(t, filepath.Join(root, "etc/inittab"), inittab)
				m := vmtest.Start(t, sandbox.Config{Kernel: kernel, Root: root, Init: sandbox.AutoInit})
				g := in(t, m)
				if got, err := g.say("until [ -e /up ]; do sleep 0.05; done; cat /proc/1/comm"); err != nil || got != "init\n" {
					t.Fatalf("PID 1 is %q, %v", got, err)
				}
				inside(t, g, way)
				if _, err := os.Stat(filepath.Join(root, "down")); err != nil {
					t.Errorf("the init did not end the machine: %v", err)
				}
			})
		}
	})
}

// inside ends the machine by a command in it, or from outside by a shutdown.
func inside(t *testing.T, g *guest, way string) {
	t.Helper()
	if way == "shutdown" {
		end(t, g.Machine)
		return
	}
	window := windowOnHardware
	if g.Emulated() {
		window = windowEmulated
	}
	// A command that ignores SIGTERM, as some do: it must not hold the machine.
	if err := g.sh("trap '' TERM; while :; do sleep 1; done").Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.sh(way).Start(); err != nil {
		t.Fatal(err)
	}
	took := g.AwaitEnd()
	t.Logf("ended %v after %s inside", took.Round(time.Millisecond), way)
	if took > window {
		t.Errorf("it took %v to end, want at most %v", took, window)
	}
}

// A real systemd, in a root of an EROFS lower and an ext4 upper.
//
//holds:boot 22: PID 1 is the init, its directory, arguments with spaces and empty ones; no port
//holds:boot 26: with an init: its own way to end
func TestHandoverSystemd(t *testing.T) {
	ownOnly(t, needsHandover)
	lower := vmtest.Disk(t, "erofs", vmtest.Debian(t))
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		ways := []string{"shutdown", "systemctl poweroff", "systemctl reboot"}
		if !long() && strings.HasPrefix(kernel, "krunfw-") {
			ways = ways[:1] // A boot of systemd takes half a minute in emulation.
		}
		for _, way := range ways {
			t.Run(way, func(t *testing.T) {
				upper := vmtest.Disk(t, "ext4", "")
				m := vmtest.Start(t, hooks.With(sandbox.Config{
					Kernel: kernel, Disks: []sandbox.Disk{{Path: lower, ReadOnly: true}, {Path: upper}},
				}, hooks.Machine{Bootstrap: &wire.Bootstrap{
					BlockRoot:   &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}},
					HandoffInit: &wire.HandoffInit{Cmd: "auto", Env: []wire.EnvVar{{Key: "container", Value: "agentd"}}},
				}}))
				g := within(t, m, initPatience)
				underSystemd(t, g)
				inside(t, g, way)
				if dirty(t, upper) {
					t.Error("the journal of the upper needs recovery")
				}
			})
		}
	})
}

// underSystemd is what a machine with systemd shows.
func underSystemd(t *testing.T, g *guest) {
	t.Helper()
	for _, c := range []command{
		{name: "up", script: "until systemctl is-active -q sysinit.target 2>/tmp/why; do sleep 1; done; cat /proc/1/comm", stdout: "systemd\n"},
		{name: "program", script: "readlink /proc/1/exe", stdout: "/usr/lib/systemd/systemd\n"},
		{name: "variable", script: "tr '\\0' '\\n' </proc/1/environ | grep container", stdout: "container=agentd\n"},
		{name: "group", script: "cat /proc/self/cgroup /proc/1/cgroup", stdout: "0::/agentd\n0::/init.scope\n"},
		{name: "log on the tmpfs that systemd finds", script: "findmnt -n -o FSTYPE /run; ls /run/microsandbox; ls -l /proc/$PPID/fd | grep -c agentd.log", stdout: "tmpfs\nagentd.log\n2\n"},
	} {
		if err := c.check(g); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := filesOverPort(g); err != nil {
		t.Error(err)
	}
}

// dirty reads whether an ext4 journal has to be replayed: the flag RECOVER of
// the incompatible features in the superblock (Documentation/filesystems/ext4).
func dirty(t *testing.T, disk string) bool {
	t.Helper()
	const superblock, magic, incompat, recovers = 1024, 56, 96, 4
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 128)
	if _, err := f.ReadAt(b, superblock); err != nil || binary.LittleEndian.Uint16(b[magic:]) != 0xef53 {
		t.Fatalf("no superblock: %v", err)
	}
	return binary.LittleEndian.Uint32(b[incompat:])&recovers != 0
}

// A host that goes away and comes back finds the commands running, and what it
// had half said forgotten.
func TestHandoverReconnect(t *testing.T) {
	ownOnly(t, needsHandover)
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		dir, err := os.MkdirTemp("", "port-") //nolint:usetesting // A socket's name may have 107 bytes.
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket, root := filepath.Join(dir, "s"), scripted(t)
		m := vmtest.Start(t, sandbox.Config{Kernel: kernel, Root: root, Init: "/sbin/the init", PortSocket: socket})
		// A client that closes kills its commands; a host that vanishes does not.
		vanish(t, m.Client(), root)
		g := in(t, m)
		c, conn := dialPort(t, g, socket)
		busy := c.CommandContext(g.ctx, "sh", "-c",
			"while :; do cat /proc/$PPID/stat >/t; mv /t /stat; [ -e /burst ] && head -c 1000000 /dev/zero && rm /burst; sleep 0.1; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return ticks(root) > 0 })
		for _, last := range [][]byte{
			{0, 0, 1, 0, 0, 0, 0, 1, 0, 0xa3},    // A frame of 256 bytes that never comes.
			{0, 0},                               // Not even a length.
			{0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, // No frame at all.
		} {
			vanish(t, conn, root)
			vanish(t, halfSaid(t, socket, last), root)
			c, conn = dialPort(t, g, socket)
			out, err := c.CommandContext(g.ctx, "echo", "back").Output()
			if err != nil || string(out) != "back\n" {
				t.Fatalf("a command of the next host said %q, %v", out, err)
			}
		}
		vanish(t, conn, root)
		away(t, root)
		c, _ = dialPort(t, g, socket)
		if err := c.Shutdown(g.ctx); err != nil {
			t.Error(err)
		}
		t.Logf("ended %v after it was asked to", m.AwaitEnd().Round(time.Millisecond))
	})
}

// vanish closes a host's connection and waits until the agent has found that.
func vanish(t *testing.T, host io.Closer, root string) {
	t.Helper()
	before := gone(root)
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return gone(root) > before })
	// What the host said last may reach the guest after the word that it has gone,
	// and is followed by that word again.
	time.Sleep(settle)
}

// settle is for a guest in emulation on a busy host.
const settle = 500 * time.Millisecond

// gone is how often the agent has told of the end of its host.
func gone(root string) int {
	b, err := os.ReadFile(filepath.Join(root, "run/microsandbox/agentd.log"))
	if err != nil {
		return 0
	}
	return strings.Count(string(b), "the host has gone")
}

// halfSaid is a host that says something broken.
func halfSaid(t *testing.T, socket string, words []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err == nil {
		_, err = conn.Write(words)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// dialPort is a host that comes to a machine that is up.
func dialPort(t *testing.T, g *guest, socket string) (*client.Client, net.Conn) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(g.ctx, "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(&client.Greeting{Link: conn, Generation: wire.Newest}, client.IDs{})
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Ping(g.ctx); err != nil {
		t.Fatal(err)
	}
	return c, conn
}

// away holds an agent without a host to next to no time of a processor, while
// its command goes on and says what nobody hears.
func away(t *testing.T, root string) {
	t.Helper()
	const hertz, while = 100, 3 * time.Second // USER_HZ of /proc/PID/stat.
	before := ticks(root)
	time.Sleep(while)
	used := time.Duration(ticks(root)-before) * time.Second / hertz
	t.Logf("the agent used %v of a processor in %v without a host", used, while)
	if used > while/10 {
		t.Errorf("that is more than a tenth")
	}
	burst := filepath.Join(root, "burst")
	plant(t, burst, "")
	waitFor(t, func() bool {
		_, err := os.Stat(burst)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// ticks is the processor time in the agent's stat that the command has copied.
func ticks(root string) (n int) {
	b, err := os.ReadFile(filepath.Join(root, "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	const user, system = 11, 12 // After the name, from 0 on: utime, stime.
	if f := strings.Fields(rest); len(f) > system {
		u, _ := strconv.Atoi(f[user])
		s, _ := strconv.Atoi(f[system])
		n = u + s
	}
	return n
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !what(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}
