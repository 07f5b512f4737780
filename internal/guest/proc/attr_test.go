package proc_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
)

// Resources by the kernel's numbers (include/uapi/asm-generic/resource.h).
const (
	cpu    = 0
	fsize  = 1
	data   = 2
	stack  = 3
	core   = 4
	nproc  = 6
	nofile = 7
	as     = 9
)

// What a child is started with: nothing but what it was given.
func TestAttributes(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		sys.Outlive() // As agentd: children must not inherit the handling of signals.
		table := newTable(t, proc.Options{})
		leak(t)
		for way, limits := range map[string][]proc.Limit{"direct": nil, "by launcher": {{Resource: core}}} {
			t.Run(way, func(t *testing.T) { attributes(t, table, limits) })
		}
	})
}

// leak opens what a careless start would hand on.
func leak(t *testing.T) {
	t.Helper()
	pty := func() (*os.File, *os.File, error) { return sys.OpenPTY(24, 80) }
	for _, open := range []func() (*os.File, *os.File, error){sys.ReadPipe, pty} {
		ours, theirs, err := open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = errors.Join(ours.Close(), theirs.Close()) })
	}
	input, end, err := sys.InputPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(input.Close(), end.Close()) })
}

func attributes(t *testing.T, table *proc.Table, limits []proc.Limit) {
	t.Helper()
	say := func(name string, argv ...string) string {
		return output(t, table, &proc.Spec{
			Name: name, Argv: append([]string{name}, argv...), Env: []string{"A=1", "PATH=/bin", "B=x=y"}, Dir: "/tmp", Limits: limits,
		})
	}
	status := say("cat", "/proc/self/status")
	for key, want := range map[string]string{
		"SigBlk:": "0000000000000000", "SigCgt:": "0000000000000000", "Umask:": "0022", "NoNewPrivs:": "0",
	} {
		if got := fieldOf(status, key); got != want {
			t.Errorf("%s %s, want %s", key, got, want)
		}
	}
	// Signals 32 and 33 are the C library's own: a process that its posix_spawn
	// starts, as under make, ignores them. The kernel starts PID 1 with none ignored.
	const libraries = 1<<31 | 1<<32
	if got, err := strconv.ParseUint(fieldOf(status, "SigIgn:"), 16, 64); err != nil || got&^libraries != 0 {
		t.Errorf("SigIgn: %x (%v), want no signal but the C library's", got, err)
	}
	// ls itself opens the directory as 3.
	if got := strings.Fields(say("ls", "/proc/self/fd")); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
		t.Errorf("descriptors %v, want 0 to 2 and that of the listing", got)
	}
	if got, want := say("env"), "A=1\nPATH=/bin\nB=x=y\n"; got != want {
		t.Errorf("environment %q, want %q", got, want)
	}
	if got := say("pwd"); got != "/tmp\n" {
		t.Errorf("directory %q", got)
	}
	// pid, command, state, parent, group, session.
	stat := strings.Fields(say("cat", "/proc/self/stat"))
	if stat[0] != stat[4] || stat[0] != stat[5] || stat[3] != "1" {
		t.Errorf("process %s has parent %s, group %s and session %s", stat[0], stat[3], stat[4], stat[5])
	}
	if here, err := os.Getwd(); err != nil || here != "/" {
		t.Errorf("our own directory is %q (%v) after a start in another", here, err)
	}
}

// fieldOf is the value of one line of a status file's text.
func fieldOf(status, key string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestTerminal(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		for way, limits := range map[string][]proc.Limit{"direct": nil, "by launcher": {{Resource: core}}} {
			t.Run(way, func(t *testing.T) {
				master, slave, err := sys.OpenPTY(33, 111)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = master.Close() }()
				// The shell opens its controlling terminal by the name that means it.
				s := shell("tty >/dev/null && stty size && ls /proc/self/fd | wc -l && exec 3</dev/pts/$(basename $(tty)) && echo open")
				s.TTY, s.Stdio, s.Limits = true, [3]proc.Descriptor{slave, slave, slave}, limits
				child, err := table.Start(s)
				if err := errors.Join(err, slave.Close()); err != nil {
					t.Fatal(err)
				}
				var got []byte
				for buf := make([]byte, 4096); ; {
					n, err := master.Read(buf)
					got = append(got, buf[:n]...)
					if err != nil { // EIO: no process has the terminal open any more.
						break
					}
				}
				wait(t, child.Done(), "the end of the command")
				if want := "33 111\r\n4\r\nopen\r\n"; string(got) != want {
					t.Errorf("got %q, want %q", got, want)
				}
				child.Release()
			})
		}
	})
}

func TestUsers(t *testing.T) {
	nstest.Run(t, func() {
		nstest.RequireUsers(t)
		nstest.Root(t)
		mkdir(t, "/closed", 0o700)
		table := newTable(t, proc.Options{})
		for way, limits := range map[string][]proc.Limit{"direct": nil, "by launcher": {{Resource: core}}} {
			t.Run("cannot enter its directory "+way, func(t *testing.T) {
				s := shell("id -u; id -g; id -G; ls /closed 2>&1 || readlink /proc/self/cwd")
				s.Dir, s.User, s.Limits = "/closed", credential(1000), limits
				s.User.Groups = []uint32{5, 2000}
				got := output(t, table, s)
				if want := "1000\n1000\n1000 5 2000\n"; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\n/closed\n") {
					t.Errorf("got %q, want %q and the directory", got, want)
				}
			})
		}
		t.Run("the impossible id", func(t *testing.T) {
			s := shell("exit 0")
			s.User = credential(1<<32 - 1)
			_, err := start(t, table, s)
			if err == nil || !strings.Contains(err.Error(), "invalid argument") {
				t.Errorf("got %v, want EINVAL", err)
			}
		})
	})
}

// A child's limits are set after its change of user, and only for it.
func TestLimits(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{})
		before := limitsOf(t)
		for _, tt := range []struct {
			name   string
			limit  proc.Limit
			script string
			want   string
		}{
			{"nofile 6", proc.Limit{Resource: nofile, Soft: 6, Hard: 6}, "ulimit -Sn; ulimit -Hn", "6\n6\n"},
			{"soft and hard", proc.Limit{Resource: nofile, Soft: 64, Hard: 128}, "ulimit -Sn; ulimit -Hn", "64\n128\n"},
			{"fsize 0", proc.Limit{Resource: fsize, Soft: 0, Hard: 0}, "exec 2>/dev/null; (echo x > /tmp/f); echo $?; ulimit -f", "153\n0\n"},
			{"cpu", proc.Limit{Resource: cpu, Soft: 1, Hard: 2}, "ulimit -St; ulimit -Ht", "1\n2\n"},
			{"as 16 MiB", proc.Limit{Resource: as, Soft: 16 << 20, Hard: 16 << 20}, "ulimit -v", "16384\n"},
			{"as 4 MiB", proc.Limit{Resource: as, Soft: 4 << 20, Hard: 4 << 20}, "ulimit -v", "4096\n"},
			{"data 1 MiB", proc.Limit{Resource: data, Soft: 1 << 20, Hard: 1 << 20}, "ulimit -d", "1024\n"},
			{"stack 256 KiB", proc.Limit{Resource: stack, Soft: 256 << 10, Hard: 256 << 10}, "ulimit -s", "256\n"},
			{"nproc 1", proc.Limit{Resource: nproc, Soft: 1, Hard: 1}, "exec awk '/processes/ {print $3}' /proc/self/limits", "1\n"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := shell(tt.script)
				s.Limits = []proc.Limit{tt.limit}
				if got := output(t, table, s); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
		if after := limitsOf(t); !slices.Equal(before, after) {
			t.Errorf("our own limits changed from %v to %v", before, after)
		}
	})
}

func limitsOf(t *testing.T) (all []uint64) {
	t.Helper()
	for resource := range 16 {
		soft, hard, err := sys.Limit(resource)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, soft, hard)
	}
	return all
}

// Limits are set after the change of user: an unprivileged user's command does
// not get a higher hard limit by asking for it, as it would from root.
func TestUserCannotPassLimits(t *testing.T) {
	nstest.Run(t, func() {
		nstest.RequireUsers(t)
		nstest.Root(t)
		if err := sys.SetLimit(nofile, 512, 512); err != nil {
			t.Fatal(err)
		}
		table := newTable(t, proc.Options{})
		s := shell("ulimit -Hn")
		s.Limits = []proc.Limit{{Resource: nofile, Soft: 512, Hard: 1024}}
		const resource = 1 << 24 // CAP_SYS_RESOURCE, which containers may lack.
		if hex, _ := field("/proc/self/status", "CapEff:"); capabilities(t, hex)&resource != 0 {
			if got := output(t, table, s); got != "1024\n" {
				t.Errorf("root's limit is %q", got)
			}
		}
		s.User = credential(1000)
		_, err := start(t, table, s)
		var failed *proc.StartError
		if !errors.As(err, &failed) || failed.Stage != proc.StageLimits || !errors.Is(err, syscall.EPERM) {
			t.Errorf("got %v, want stage %s and EPERM", err, proc.StageLimits)
		}
	})
}

// The restricted profile holds in children and nowhere else: what restarts the
// machine or mounts needs its own capabilities.
func TestRestricted(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		table := newTable(t, proc.Options{Restricted: true})
		const admin = 1 << 21 // CAP_SYS_ADMIN, capabilities(7).
		for way, limits := range map[string][]proc.Limit{"direct": nil, "by launcher": {{Resource: core}}} {
			t.Run(way, func(t *testing.T) {
				s := shell("cat /proc/self/status; mount -t tmpfs x /mnt 2>&1 || true")
				s.Limits = limits
				status := output(t, table, s)
				if got := fieldOf(status, "NoNewPrivs:"); got != "1" {
					t.Errorf("NoNewPrivs: %s", got)
				}
				for _, key := range []string{"CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"} {
					if set := capabilities(t, fieldOf(status, key)); set&admin != 0 {
						t.Errorf("%s %#x has CAP_SYS_ADMIN", key, set)
					}
				}
				if capabilities(t, fieldOf(status, "CapEff:")) == 0 {
					t.Error("all capabilities are gone, want all but one")
				}
				if !strings.Contains(status, "mount: ") {
					t.Error("the command could mount")
				}
			})
		}
		if n := threadsWithout(t, admin); n != 1 {
			t.Errorf("%d of our threads are without CAP_SYS_ADMIN, want only the one that starts children", n)
		}
	})
}

func capabilities(t *testing.T, hex string) uint64 {
	t.Helper()
	set, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// What /proc shows of the agent is its main thread, which no spawner takes: each takes the
// thread that it is on, for good.
func TestOwnRights(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for range 32 {
			newTable(t, proc.Options{Restricted: true})
		}
		if own, _ := field("/proc/self/status", "NoNewPrivs:"); own != "0" {
			t.Errorf("the main thread has NoNewPrivs %s, want the agent's own rights", own)
		}
	})
}

// threadsWithout counts our threads that lack a capability or have no_new_privs.
func threadsWithout(t *testing.T, capability uint64) (n int) {
	t.Helper()
	sys.ReserveThreads(8) // Threads made later come from somewhere, too.
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) < 8 {
		t.Fatalf("%d threads: %v", len(tasks), err)
	}
	for _, task := range tasks {
		hex, ok := field(task, "CapEff:")
		if !ok {
			continue
		}
		privileges, _ := field(task, "NoNewPrivs:")
		if capabilities(t, hex)&capability == 0 || privileges != "0" {
			n++
		}
	}
	return n
}

// A signal that another process sends ends PID 1 never.
func TestOutlive(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		sys.Outlive()
		table := newTable(t, proc.Options{})
		var kills strings.Builder
		for number := 1; number <= 64; number++ {
			if number != 32 && number != 33 { // The C library's, which the shell refuses.
				fmt.Fprintf(&kills, "kill -%d 1 2>/dev/null; ", number)
			}
		}
		for range 50 { // A signal that is not caught ends it only at some moments.
			output(t, table, shell(kills.String()+"true"))
		}
	})
}
