package boot_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// planOf is a plan that the configuration makes, without what a namespace has
// no device for: the share.
func planOf(t *testing.T, environ ...string) *plan.Plan {
	t.Helper()
	p, err := plan.FromEnvironment(append([]string{"MSB_TEST=1"}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool {
		_, share := s.(plan.Share)
		return share
	})
	return p
}

// only is a plan of some steps.
func only(steps ...plan.Step) *plan.Plan { return &plan.Plan{Steps: steps} }

// up carries a plan out, which must not hang whatever the root holds.
func up(t *testing.T, p *plan.Plan) (*boot.Machine, error) {
	t.Helper()
	type result struct {
		m   *boot.Machine
		err error
	}
	done := make(chan result, 1)
	go func() {
		m, err := boot.Up(p, func(string) error { return nil })
		done <- result{m, err}
	}()
	select {
	case r := <-done:
		return r.m, r.err
	case <-time.After(20 * time.Second):
		t.Fatal("the boot hangs")
		return nil, nil
	}
}

func mustUp(t *testing.T, p *plan.Plan) *boot.Machine {
	t.Helper()
	m, err := up(t, p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, name, content string) {
	t.Helper()
	mkdir(t, filepath.Dir(name))
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(name, 0o755); err != nil {
		t.Fatal(err)
	}
}

// link puts a link in the place of whatever is there.
func link(t *testing.T, target, name string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(name), os.Symlink(target, name)); err != nil {
		t.Fatal(err)
	}
}

// bare takes away what the test root has in /dev and /proc, so that the boot
// mounts it.
func bare(t *testing.T) {
	t.Helper()
	unmounted(t)
	if err := os.RemoveAll("/dev"); err != nil {
		t.Fatal(err)
	}
}

func unmounted(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/dev/pts", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/proc"} {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
}

// mounts are the last mounts at each place: source, type and flags in order.
func mounts(t *testing.T) map[string][3]string {
	t.Helper()
	all := map[string][3]string{}
	for line := range strings.Lines(read(t, "/proc/self/mounts")) {
		f := strings.Fields(line)
		all[f[1]] = [3]string{f[0], f[2], f[3]}
	}
	return all
}

// The whole plan of an empty configuration, twice over one root.
//
//holds:boot 8: a root that has the mounts already boots
func TestUp(t *testing.T) {
	nstest.Run(t, func() {
		nstest.RequireUsers(t) // A user namespace mounts no devtmpfs.
		nstest.Root(t)
		bare(t)
		for range 2 {
			m := mustUp(t, planOf(t, "MSB_HOSTNAME=box"))
			checkMounts(t)
			if len(m.Timings) == 0 || m.Timings[0].Step != "mounts" {
				t.Errorf("timings %v", m.Timings)
			}
			if name, err := os.Hostname(); name != "box" {
				t.Errorf("host name %q, %v", name, err)
			}
			if got := read(t, "/etc/hostname"); got != "box\n" {
				t.Errorf("/etc/hostname is %q", got)
			}
			for dir, mode := range map[string]fs.FileMode{
				"/tmp": fs.ModeSticky | 0o777, "/var/tmp": fs.ModeSticky | 0o777, "/run": 0o755, "/run/microsandbox": 0o755,
			} {
				if st, err := os.Stat(dir); err != nil || !st.IsDir() || st.Mode()&^fs.ModeDir != mode {
					t.Errorf("%s: %v %v, want %v", dir, st.Mode(), err, mode)
				}
			}
			checkLoopback(t)
		}
		if n := strings.Count(read(t, "/proc/self/mounts"), " /dev/shm "); n != 1 {
			t.Errorf("/dev/shm is mounted %d times", n)
		}
	})
}

// checkMounts compares with the table of the boot document, section 8.
func checkMounts(t *testing.T) {
	t.Helper()
	const strict = "nodev noexec nosuid relatime"
	got := mounts(t)
	for _, want := range []struct{ target, source, fstype, flags string }{
		{"/dev", "devtmpfs", "devtmpfs", "relatime"},
		{"/proc", "proc", "proc", strict},
		{"/sys", "sysfs", "sysfs", strict},
		{"/sys/fs/cgroup", "cgroup2", "cgroup2", strict},
		{"/dev/pts", "devpts", "devpts", "noexec nosuid relatime gid=5 mode=620 ptmxmode=666"},
		{"/dev/shm", "tmpfs", "tmpfs", "noexec nosuid relatime"},
	} {
		m := got[want.target]
		flags := strings.Split(m[2], ",")
		if m[0] != want.source || m[1] != want.fstype {
			t.Errorf("%s is %v, want %s of type %s", want.target, m, want.source, want.fstype)
		}
		for _, flag := range []string{"nodev", "noexec", "nosuid", "relatime", "gid=5", "mode=620", "ptmxmode=666"} {
			if slices.Contains(flags, flag) != slices.Contains(strings.Fields(want.flags), flag) {
				t.Errorf("%s has %v, want %s", want.target, flags, want.flags)
			}
		}
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if got, err := os.Readlink("/dev/" + name); got != "/proc/self/fd"+target {
			t.Errorf("/dev/%s is %q, %v", name, got, err)
		}
	}
}

func checkLoopback(t *testing.T) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil || lo.Flags&net.FlagUp == 0 {
		t.Fatalf("lo is not up: %v", err)
	}
	addrs, err := lo.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addrs {
		got = append(got, a.String())
	}
	if !slices.Contains(got, "127.0.0.1/8") {
		t.Errorf("lo has %v", got)
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil && !slices.Contains(got, "::1/128") {
		t.Errorf("lo has %v and the kernel has IPv6", got)
	}
}

// Down undoes what was done, and nothing that was there before.
func TestDown(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		var steps []plan.Mount
		for _, dir := range []string{"/mnt/a", "/mnt/a/b", "/mnt/c"} {
			steps = append(steps, plan.Mount{Source: "x", Target: dir, Type: "tmpfs"})
		}
		before := mounts(t)
		if err := syscall.Mount("x", "/mnt", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		m := mustUp(t, only(plan.Mounts{List: append([]plan.Mount{{Source: "x", Target: "/mnt", Type: "tmpfs"}}, steps...)}))
		if got := len(mounts(t)); got != len(before)+4 {
			t.Errorf("%d mounts, want %d", got, len(before)+4)
		}
		m.Down(10 * time.Second)
		after := mounts(t)
		if _, there := after["/mnt"]; len(after) != len(before)+1 || !there {
			t.Errorf("mounts after: %v", after)
		}
		err := os.WriteFile("/new", nil, 0o644)
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("the root can be written to: %v", err)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT, ""); err != nil { // For the test's own end.
			t.Fatal(err)
		}
	})
}

// A plan with an invalid step has no effect at all.
func TestCheck(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		write(t, "/etc/hosts", "old\n")
		p := only(plan.HostsFile{Content: "new\n"}, &plan.Loopback{})
		_, err := up(t, p)
		var step *boot.StepError
		if !errors.As(err, &step) || step.Step.Name() != "loopback" {
			t.Errorf("got %v", err)
		}
		if err := boot.Check(p); err == nil {
			t.Error("Check says nothing about what Up refuses")
		}
		if got := read(t, "/etc/hosts"); got != "old\n" {
			t.Errorf("the step before was done: %q", got)
		}
	})
}

// A step that fails ends the boot, says which it was, and nothing after it is done.
func TestStepError(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		asked := errors.New("the host said no")
		_, err := boot.Up(only(plan.Handshake{User: "alice"}, plan.HostsFile{Content: "new\n"}), func(user string) error {
			if user != "alice" {
				t.Errorf("greeted as %q", user)
			}
			return asked
		})
		if !errors.Is(err, asked) || !strings.Contains(err.Error(), "step handshake: ") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat("/etc/hosts"); err == nil {
			t.Error("the next step was done")
		}
		_, err = up(t, only(plan.Mounts{List: []plan.Mount{
			{Source: "x", Target: "/mnt", Type: "no-such-type", Optional: true},
			{Source: "x", Target: "/mnt", Type: "tmpfs", Data: "size=none"},
		}}))
		if err == nil || !strings.Contains(err.Error(), "step mounts: mount x (type tmpfs) on /mnt: ") {
			t.Errorf("got %v", err)
		}
	})
}

//holds:boot 15: hosts byte by byte, with and without hostname and alias; the name
func TestHosts(t *testing.T) {
	const head, tail = "127.0.0.1\tlocalhost", "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	network := []string{
		"MSB_NET=iface=eth0,mac=02:00:00:00:00:01,mtu=1500",
		"MSB_NET_IPV4=addr=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.1", "MSB_NET_IPV6=addr=fd00::2/64,gw=fd00::1,dns=fd00::1",
	}
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, tt := range []struct {
			name    string
			environ []string
			want    string
		}{
			{"neither", nil, head + "\n::1\tlocalhost ip6-localhost ip6-loopback\n" + tail},
			{"hostname", []string{"MSB_HOSTNAME=box"}, head + " box\n::1\tlocalhost ip6-localhost ip6-loopback box\n" + tail},
			{
				"alias", append(slices.Clone(network), "MSB_HOST_ALIAS=host.test"),
				head + "\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\thost.test\nfd00::1\thost.test\n" + tail,
			},
			{
				"both", append(slices.Clone(network), "MSB_HOST_ALIAS=host.test", "MSB_HOSTNAME=box"),
				head + " box\n::1\tlocalhost ip6-localhost ip6-loopback box\n10.0.0.1\thost.test\nfd00::1\thost.test\n" + tail,
			},
		} {
			t.Run(tt.name, func(t *testing.T) {
				p := planOf(t, tt.environ...)
				p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool {
					_, hosts := s.(plan.HostsFile)
					return !hosts
				})
				mustUp(t, p)
				if got := read(t, "/etc/hosts"); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if st, err := os.Stat("/etc/hosts"); err != nil || st.Mode() != 0o644 {
					t.Errorf("mode %v, %v", st.Mode(), err)
				}
			})
		}
	})
}

const block = `# >>> microsandbox scripts path >>>
case ":$PATH:" in
  *:/.msb/scripts:*) ;;
  *) export PATH="/.msb/scripts:$PATH" ;;
esac
# <<< microsandbox scripts path <<<
`

func TestProfileBlock(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, tt := range []struct{ name, old, want string }{
			{"missing", "", block},
			{"empty", "", block},
			{"with a final newline", "umask 022\n", "umask 022\n" + block},
			{"without a final newline", "umask 022", "umask 022\n" + block},
			{"not UTF-8", "\xff\n", "\xff\n" + block},
			{"with the block", "a\n" + block + "b", "a\n" + block + "b"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				if err := os.RemoveAll("/etc/profile"); err != nil {
					t.Fatal(err)
				}
				if tt.name != "missing" {
					write(t, "/etc/profile", tt.old)
				}
				for range 2 {
					mustUp(t, only(plan.ProfileBlock{}))
					if got := read(t, "/etc/profile"); got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
				}
			})
		}
	})
}

// Limits are set on the agent, except those that it could not live with: these
// wait for each command.
func TestLimits(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		p := planOf(t, "MSB_RLIMITS=core=0:0;fsize=0;cpu=1;data=1048576;as=8388608;nofile=6;sigpending=100:100")
		p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool {
			_, limits := s.(plan.Limits)
			return !limits
		})
		m := mustUp(t, p)
		var lim syscall.Rlimit
		const sigpending = 11
		if err := syscall.Getrlimit(sigpending, &lim); err != nil || lim.Cur != 100 || lim.Max != 100 {
			t.Errorf("sigpending %+v, %v", lim, err)
		}
		if n := len(m.CommandLimits); n != 5 {
			t.Errorf("%d limits wait for commands: %v", n, m.CommandLimits)
		}
		write(t, "/tmp/f", "the agent can write")
	})
}

// An error says what would help, where that is known.
func TestHints(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		mkdir(t, "/full")
		if err := syscall.Mount("full", "/full", "tmpfs", 0, "nr_inodes=2"); err != nil {
			t.Fatal(err)
		}
		write(t, "/full/file", "the second of two")
		mkdir(t, "/etc/hosts")
		mkdir(t, "/srv")
		link(t, "/srv", "/linked")
		for _, tt := range []struct {
			step plan.Step
			err  error // Of the handshake.
			want string
		}{
			{plan.HostsFile{Content: "new\n"}, nil, "step hosts: rename /etc/hosts: is a directory (remove the directory"},
			{plan.TmpfsMount{Mount: memory("/linked/x")}, nil, "(remove the link from the image, or mount at the place that it leads to)"},
			{plan.TmpfsMount{Mount: memory("/full/deep/er")}, nil, "(the file system is full)"},
			{plan.Handshake{User: "bob"}, plan.ErrUserNotFound, "step handshake: guest user not found (the image's /etc/passwd has to have it"},
			{plan.Handshake{User: "0:bobs"}, plan.ErrGroupNotFound, "step handshake: guest group not found (the image's /etc/group has to have it"},
		} {
			_, err := boot.Up(only(tt.step), func(string) error { return tt.err })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		}
	})
}
