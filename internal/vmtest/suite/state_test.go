package suite

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// state is what a boot leaves (boot sections 8, 9, 15 to 17 and 20).
//
//holds:wire 7: the clock: 1 h and 5 s corrected by one message, 50 ms left alone
//holds:boot 25: ping, touch and the clock as in 7
func state() []behaviour {
	return append(
		each(
			command{name: "host name", argv: []string{"hostname"}, stdout: "suite\n"},
			command{name: "hostname file", argv: []string{"cat", "/etc/hostname"}, stdout: "suite\n"},
			command{name: "hosts file", argv: []string{"cat", "/etc/hosts"}, stdout: "127.0.0.1\tlocalhost suite\n" +
				"::1\tlocalhost ip6-localhost ip6-loopback suite\n" +
				"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"},
			command{name: "temporary directories", argv: []string{"stat", "-c", "%n %a", "/tmp", "/var/tmp"}, stdout: "/tmp 1777\n/var/tmp 1777\n"},
			command{name: "temporary directories are everybody's", script: "touch /tmp/mine /var/tmp/mine", user: "nobody"},
			command{name: "descriptor directory", argv: []string{"readlink", "/dev/fd"}, stdout: "/proc/self/fd\n"},
			command{name: "run directories", argv: []string{"ls", "-d", "/run/microsandbox"}, stdout: "/run/microsandbox\n"},
			command{name: "loopback of IPv4", script: "ping -c 1 -W 5 127.0.0.1 >/dev/null"},
			command{name: "loopback of IPv6", script: "ping6 -c 1 -W 5 ::1 >/dev/null"},
			command{name: "login shells know the scripts", argv: []string{"sh", "-lc", "mine"}, stdout: "mine\n"},
		),
		behaviour{"mounts", mounts},
		behaviour{"clock", clock},
	)
}

// mounts are the essential ones, with their kinds and flags; more is no harm.
func mounts(g *guest) error {
	out, err := g.say("cat /proc/self/mounts")
	if err != nil {
		return err
	}
	for _, want := range []struct {
		target, kind string
		flags        []string
	}{
		{"/dev", "devtmpfs", []string{"rw", "relatime"}},
		{"/proc", "proc", []string{"rw", "nosuid", "nodev", "noexec", "relatime"}},
		{"/sys", "sysfs", []string{"rw", "nosuid", "nodev", "noexec", "relatime"}},
		{"/sys/fs/cgroup", "cgroup2", []string{"rw", "nosuid", "nodev", "noexec", "relatime"}},
		{"/dev/pts", "devpts", []string{"rw", "nosuid", "noexec", "relatime"}},
		{"/dev/shm", "tmpfs", []string{"rw", "nosuid", "noexec", "relatime"}},
		{"/.msb", "virtiofs", []string{"rw"}},
	} {
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			f := strings.Fields(line)
			return len(f) > 3 && f[1] == want.target && f[2] == want.kind && hasAll(strings.Split(f[3], ","), want.flags)
		}) {
			return fmt.Errorf("no %s on %s with %v in\n%s", want.kind, want.target, want.flags, out)
		}
	}
	return nil
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(have, s) })
}

// clock tells the guest the time and compares: an emulated clock drifts.
func clock(g *guest) error {
	const tolerance = 5 // Seconds: the command's start on a busy host.
	if err := g.Client().SyncClock(g.ctx, time.Now()); err != nil {
		return err
	}
	out, err := g.say("date +%s")
	if err != nil {
		return err
	}
	var guests int64
	if _, err := fmt.Sscan(out, &guests); err != nil {
		return err
	}
	if ours := time.Now().Unix(); guests < ours-tolerance || guests > ours+tolerance {
		return fmt.Errorf("the guest's clock says %d, ours %d", guests, ours)
	}
	return nil
}
