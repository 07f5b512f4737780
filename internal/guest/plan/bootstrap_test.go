package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/bootenv"
)

func mustBootstrap(t *testing.T, b *wire.Bootstrap) *Plan {
	t.Helper()
	p, err := FromBootstrap(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestBootstrapRejects has every rejected form of docs/BOOT.md section 5.
func TestBootstrapRejects(t *testing.T) {
	type message = wire.Bootstrap
	network := func(n wire.Network) message { return message{Network: &n} }
	eth0 := wire.Network{Interface: "eth0", MTU: 1500}
	for _, c := range []struct {
		field, value, rule string
		b                  message
	}{
		{"block_root.device", "vda", "absolute", message{BlockRoot: &wire.DiskImage{Device: "vda"}}},
		{"block_root.device", "/d\x00", "NUL", message{BlockRoot: &wire.DiskImage{Device: "/d\x00"}}},
		{"block_root.fstype", "", "empty", message{BlockRoot: &wire.DiskImage{Device: "/d", FSType: new("")}}},
		{"block_root.fstype", "\x00", "NUL", message{BlockRoot: &wire.DiskImage{Device: "/d", FSType: new("\x00")}}},
		{"block_root.lower", "", "absolute", message{BlockRoot: &wire.OCIErofs{Upper: &wire.UpperTmpfs{}}}},
		{"block_root.upper", "", "device or a tmpfs", message{BlockRoot: &wire.OCIErofs{Lower: "/d"}}},
		{"block_root.upper.device", "b", "absolute", message{BlockRoot: &wire.OCIErofs{Lower: "/d", Upper: &wire.UpperDevice{Device: "b", FSType: "ext4"}}}},
		{"block_root.upper.fstype", "", "empty", message{BlockRoot: &wire.OCIErofs{Lower: "/d", Upper: &wire.UpperDevice{Device: "/b"}}}},

		{"dir_mounts[0].tag", "", "empty", message{DirMounts: []wire.DirMount{{GuestPath: "/d"}}}},
		{"dir_mounts[0].tag", "a\x00", "NUL", message{DirMounts: []wire.DirMount{{Tag: "a\x00", GuestPath: "/d"}}}},
		{"dir_mounts[1].guest_path", "d", "absolute", message{DirMounts: []wire.DirMount{{Tag: "t", GuestPath: "/d"}, {Tag: "t", GuestPath: "d"}}}},
		{"dir_mounts[0].guest_path", "", "absolute", message{DirMounts: []wire.DirMount{{Tag: "t"}}}},
		{"dir_mounts[0].guest_path", "/a\x00b", "NUL", message{DirMounts: []wire.DirMount{{Tag: "t", GuestPath: "/a\x00b"}}}},
		{"file_mounts[0].tag", "", "empty", message{FileMounts: []wire.FileMount{{Filename: "f", GuestPath: "/d"}}}},
		{"file_mounts[0].tag", "a/b", "one path component", message{FileMounts: []wire.FileMount{{Tag: "a/b", Filename: "f", GuestPath: "/d"}}}},
		{"file_mounts[0].filename", "", "empty", message{FileMounts: []wire.FileMount{{Tag: "t", GuestPath: "/d"}}}},
		{"file_mounts[0].filename", "../../etc/passwd", "one path component", message{FileMounts: []wire.FileMount{{Tag: "t", Filename: "../../etc/passwd", GuestPath: "/d"}}}},
		{"file_mounts[0].filename", "..", "one path component", message{FileMounts: []wire.FileMount{{Tag: "t", Filename: "..", GuestPath: "/d"}}}},
		{"file_mounts[0].guest_path", "d", "absolute", message{FileMounts: []wire.FileMount{{Tag: "t", Filename: "f", GuestPath: "d"}}}},
		{"disk_mounts[0].id", "", "empty", message{DiskMounts: []wire.DiskMount{{GuestPath: "/d"}}}},
		{"disk_mounts[0].id", "../vda", "one path component", message{DiskMounts: []wire.DiskMount{{ID: "../vda", GuestPath: "/d"}}}},
		{"disk_mounts[0].id", "a23456789012345678901", "20 bytes", message{DiskMounts: []wire.DiskMount{{ID: "a23456789012345678901", GuestPath: "/d"}}}},
		{"disk_mounts[0].fstype", "", "empty", message{DiskMounts: []wire.DiskMount{{ID: "i", GuestPath: "/d", FSType: new("")}}}},
		{"disk_mounts[0].guest_path", "d", "absolute", message{DiskMounts: []wire.DiskMount{{ID: "i", GuestPath: "d"}}}},
		{"tmpfs_mounts[0].path", "d", "absolute", message{TmpfsMounts: []wire.TmpfsMount{{Path: "d"}}}},
		{"tmpfs_mounts[4096].path", "/x", "more than 4096", message{TmpfsMounts: slices.Repeat([]wire.TmpfsMount{{Path: "/x"}}, 4097)}},

		{"hostname", "", "empty", message{Hostname: new("")}},
		{"hostname", "a\x00", "NUL", message{Hostname: new("a\x00")}},
		{"hostname", "a\nb", "control", message{Hostname: new("a\nb")}},
		{"hostname", strings.Repeat("h", 65), "64 bytes", message{Hostname: new(strings.Repeat("h", 65))}},
		{"host_alias", "", "empty", message{HostAlias: new("")}},
		{"host_alias", "a\n", "control", message{HostAlias: new("a\n")}},

		{"network.interface", "", "empty", network(wire.Network{MTU: 1500})},
		{"network.interface", "a\x00", "NUL", network(wire.Network{Interface: "a\x00", MTU: 1500})},
		{"network.interface", "a/b", "without '/'", network(wire.Network{Interface: "a/b", MTU: 1500})},
		{"network.mtu", "67", "at least 68", network(wire.Network{Interface: "eth0", MTU: 67})},
		{"network.ipv4.prefix_len", "33", "up to 32", network(wire.Network{Interface: "eth0", MTU: 1500, IPv4: &wire.IPv4{PrefixLen: 33}})},
		{"network.ipv6.prefix_len", "129", "up to 128", network(wire.Network{Interface: "eth0", MTU: 1500, IPv6: &wire.IPv6{PrefixLen: 129}})},

		{"rlimits[0]", "files", "Linux limits", message{Rlimits: []wire.Rlimit{{Resource: "files"}}}},
		{"rlimits[0]", "core", "soft limit", message{Rlimits: []wire.Rlimit{{Resource: "core", Soft: 1}}}},
		{"rlimits[1]", "core", "twice", message{Rlimits: []wire.Rlimit{{Resource: "core"}, {Resource: "core"}}}},
		{"rlimits[1]", "CORE", "twice", message{Rlimits: []wire.Rlimit{{Resource: "core"}, {Resource: "CORE"}}}},

		{"user", "", "empty", message{User: new("")}},
		{"user", "a\x00", "NUL", message{User: new("a\x00")}},
		{"user", ":1", "before the colon", message{User: new(":1")}},
		{"user", "1:", "after the colon", message{User: new("1:")}},
		{"default_cwd", "", "empty", message{DefaultCwd: new("")}},
		{"default_cwd", "/\x00", "NUL", message{DefaultCwd: new("/\x00")}},
		{"default_env[0].key", "", "empty", message{DefaultEnv: []wire.EnvVar{{Value: "x"}}}},
		{"default_env[1].key", "A=B", "'='", message{DefaultEnv: []wire.EnvVar{{Key: "A"}, {Key: "A=B"}}}},
		{"default_env[0].key", "A\x00", "NUL", message{DefaultEnv: []wire.EnvVar{{Key: "A\x00"}}}},
		{"default_env[0].value", "A", "NUL", message{DefaultEnv: []wire.EnvVar{{Key: "A", Value: "\x00"}}}},
		{"security_profile", "strict", "default or restricted", message{SecurityProfile: "strict"}},

		{"handoff_init.cmd", "", "absolute path or", message{HandoffInit: &wire.HandoffInit{}}},
		{"handoff_init.cmd", "init", "absolute path or", message{HandoffInit: &wire.HandoffInit{Cmd: "init"}}},
		{"handoff_init.cmd", "/i\x00", "NUL", message{HandoffInit: &wire.HandoffInit{Cmd: "/i\x00"}}},
		{"handoff_init.args[1]", "\x00", "NUL", message{HandoffInit: &wire.HandoffInit{Cmd: "auto", Args: []string{"", "\x00"}}}},
		{"handoff_init.cwd", "app", "absolute", message{HandoffInit: &wire.HandoffInit{Cmd: "auto", Cwd: new("app")}}},
		{"handoff_init.cwd", "", "absolute", message{HandoffInit: &wire.HandoffInit{Cmd: "auto", Cwd: new("")}}},
		{"handoff_init.env[0].key", "", "empty", message{HandoffInit: &wire.HandoffInit{Cmd: "auto", Env: []wire.EnvVar{{}}}}},
		{"handoff_init.env[0].value", "A", "NUL", message{HandoffInit: &wire.HandoffInit{Cmd: "auto", Env: []wire.EnvVar{{Key: "A", Value: "\x00"}}}}},
	} {
		t.Run(c.field+"/"+showValue(c.value), func(t *testing.T) {
			if c.b.Network == nil {
				c.b.Network = &eth0
			}
			p, err := FromBootstrap(&c.b, nil)
			rejected(t, p, err, Bootstrap, c.field, c.value, c.rule)
		})
	}
}

// tmpfs returns a message that mounts memory at the paths, in this order.
func tmpfs(paths ...string) *wire.Bootstrap {
	var b wire.Bootstrap
	for _, p := range paths {
		b.TmpfsMounts = append(b.TmpfsMounts, wire.TmpfsMount{Path: p})
	}
	return &b
}

// TestMountOrderRejects has the rejected forms of docs/BOOT.md section 14.
//
//holds:boot 14: one path twice, a file above a mount, `..`, `/`: end the boot before any mount
func TestMountOrderRejects(t *testing.T) {
	withFile := func(file string, b *wire.Bootstrap) *wire.Bootstrap {
		b.FileMounts = []wire.FileMount{{Tag: "t", Filename: "f", GuestPath: file}}
		return b
	}
	for _, c := range []struct {
		b                  *wire.Bootstrap
		field, value, rule string
	}{
		{tmpfs("/"), "tmpfs_mounts[0].path", "/", "root directory"},
		{tmpfs("/./"), "tmpfs_mounts[0].path", "/./", "root directory"},
		{tmpfs("/a/../b"), "tmpfs_mounts[0].path", "/a/../b", `".."`},
		{tmpfs("/a/.."), "tmpfs_mounts[0].path", "/a/..", `".."`},
		{tmpfs("/proc/x"), "tmpfs_mounts[0].path", "/proc/x", "/proc"},
		{tmpfs("/dev"), "tmpfs_mounts[0].path", "/dev", "/dev"},
		{tmpfs("/a", "/b", "/a"), "tmpfs_mounts[2].path", "/a", "two mounts"},
		{tmpfs("/a/b", "//a/./b/"), "tmpfs_mounts[1].path", "//a/./b/", "two mounts"},
		{withFile("/a", tmpfs("/a")), "tmpfs_mounts[0].path", "/a", "two mounts"},
		{withFile("/a", tmpfs("/a/b")), "file_mounts[0].guest_path", "/a", "above the target of another"},
		{withFile("/a/", tmpfs("/x", "/a/b/c/d", "/a-b")), "file_mounts[0].guest_path", "/a/", "above the target of another"},
	} {
		p, err := FromBootstrap(c.b, nil)
		rejected(t, p, err, Bootstrap, c.field, c.value, c.rule)
	}
	mustBootstrap(t, withFile("/a/b", tmpfs("/a", "/a/bc", "/a/b.d")))
}

// targets returns the targets of the mounts of the user's, in order.
func targets(p *Plan) []string {
	var out []string
	for _, s := range p.Steps {
		switch s := s.(type) {
		case DirMount:
			out = append(out, s.Target)
		case FileMount:
			out = append(out, s.Path)
		case DiskMount:
			out = append(out, s.Path)
		case TmpfsMount:
			out = append(out, s.Target)
		}
	}
	return out
}

// TestMountOrder: however a host lists its mounts, they are made by depth, then
// by the bytes of the path.
func TestMountOrder(t *testing.T) {
	want := []string{"/B", "/a", "/z", "/a/b", "/a/c", "/b/a", "/a/b-c/d", "/a/b/c", "/a/b/c/d"}
	for range 50 {
		given := slices.Clone(want)
		rand.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
		if got := targets(mustBootstrap(t, tmpfs(given...))); !slices.Equal(got, want) {
			t.Fatalf("given %q\ngot   %q\nwant  %q", given, got, want)
		}
	}
}

func TestRestrictedReachesEveryUserMount(t *testing.T) {
	b := bootstraps()["boot-mounts"]
	for _, profile := range []wire.SecurityProfile{wire.ProfileDefault, wire.ProfileRestricted} {
		b.SecurityProfile = profile
		b.TmpfsMounts[0].Flags = wire.MountFlags{}
		p := mustBootstrap(t, b)
		got := strings.Count(p.String(), "nosuid,nodev,relatime")
		want := 3 // The kernel's own have both flags.
		if profile == wire.ProfileRestricted {
			want += 4
		}
		if got != want || p.Commands.Restricted != (want > 3) {
			t.Errorf("%s: %d mounts with both flags, want %d", profile, got, want)
		}
	}
}

func TestMessageFlags(t *testing.T) {
	for _, c := range []struct {
		in   wire.MountFlags
		want Flags
	}{
		{wire.MountFlags{}, 0},
		{wire.MountFlags{ReadOnly: true}, ReadOnly},
		{wire.MountFlags{NoExec: true}, NoExec},
		{wire.MountFlags{NoSuid: true}, NoSUID},
		{wire.MountFlags{NoDev: true}, NoDev},
		{wire.MountFlags{ReadOnly: true, NoExec: true, NoSuid: true, NoDev: true}, ReadOnly | NoExec | NoSUID | NoDev},
	} {
		if got := messageFlags(c.in); got != c.want {
			t.Errorf("%+v: %v, want %v", c.in, got, c.want)
		}
	}
}

// TestMountOrderOfManyDeepMounts has the most work that a message of 4 MiB can
// ask for: paths as long as they may be, of components as short as they can be.
func TestMountOrderOfManyDeepMounts(t *testing.T) {
	paths := make([]string, 1024)
	for i := range paths {
		paths[i] = fmt.Sprintf("/%04d%s", i, strings.Repeat("/x", (maxPath-5)/2))
	}
	b := tmpfs(paths...)
	b.FileMounts = []wire.FileMount{{Tag: "t", Filename: "f", GuestPath: "/1023x"}}
	start := time.Now()
	mustBootstrap(t, b)
	// Some 50 ms; the rest is room for a loaded machine and the race detector.
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestCommands(t *testing.T) {
	inherited := []string{
		"HOME=/", "PATH=/inherited", "MSB_HOSTNAME=x", "MSB_HANDOFF_INIT_ENV=A=1", "MSB_API_KEY=kept",
		"AGENTD_DEBUG=wire", "KRUN_INIT=/x", "=empty", "noequals", "A=1", "A=2",
	}
	pair := func(k, v string) wire.EnvVar { return wire.EnvVar{Key: k, Value: v} }
	for _, c := range []struct {
		name string
		b    wire.Bootstrap
		want Commands
	}{
		{"nothing", wire.Bootstrap{}, Commands{
			Cwd: "/", Env: []string{"HOME=/", "PATH=" + ScriptsDir + ":" + DefaultPath, "MSB_API_KEY=kept", "A=2"},
		}},
		{
			"everything",
			wire.Bootstrap{
				User: new("app:www"), DefaultCwd: new("srv/app"), SecurityProfile: wire.ProfileRestricted,
				DefaultEnv: []wire.EnvVar{pair("B", "1"), pair("PATH", "/1"), pair("A", ""), pair("PATH", "/2:/.msb/scripts"), pair("B", "2")},
			},
			Commands{
				User: "app:www", Cwd: "/srv/app", Restricted: true,
				Env: []string{"HOME=/", "PATH=/2:/.msb/scripts", "MSB_API_KEY=kept", "A=", "B=2"},
			},
		},
		{"blank user", wire.Bootstrap{User: new(" \t"), DefaultEnv: []wire.EnvVar{pair("PATH", "")}}, Commands{
			Cwd: "/", Env: []string{"HOME=/", "PATH=/.msb/scripts", "MSB_API_KEY=kept", "A=2"},
		}},
	} {
		p, err := FromBootstrap(&c.b, inherited)
		if err != nil {
			t.Fatal(err)
		}
		got := p.Commands
		if !slices.Equal(got.Env, c.want.Env) {
			t.Errorf("%s: env\n got %q\nwant %q", c.name, got.Env, c.want.Env)
		}
		if got.User != c.want.User || got.Cwd != c.want.Cwd || got.Restricted != c.want.Restricted {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	env := mustEnvironment(t, inherited).Commands.Env
	if want := []string{"HOME=/", "PATH=/inherited", "MSB_API_KEY=kept", "A=2"}; !slices.Equal(env, want) {
		t.Errorf("environment mode: %q, want %q", env, want)
	}
}

// TestBootstrapIgnoresVariables: the sources are never merged.
func TestBootstrapIgnoresVariables(t *testing.T) {
	p, err := FromBootstrap(&wire.Bootstrap{}, environments["env-mounts"])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stepNames(p), stepNames(mustBootstrap(t, &wire.Bootstrap{})); got != want {
		t.Errorf("steps are %s", got)
	}
}

// TestSeal: it is the last that is done, but for handing over PID 1.
//
//holds:boot 2: a sealed root: nobody writes, the boot's files are there, over layers and disks
func TestSeal(t *testing.T) {
	environ := []string{bootenv.Seal + "=" + bootenv.SealRoot}
	byMessage, err := FromBootstrap(&wire.Bootstrap{HandoffInit: &wire.HandoffInit{Cmd: "/sbin/init"}}, environ)
	if err != nil {
		t.Fatal(err)
	}
	byVariables, err := FromEnvironment(append(environ, "MSB_HANDOFF_INIT=/sbin/init"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Plan{byMessage, byVariables} {
		if names := stepNames(p); !strings.HasSuffix(names, " run-dirs seal handover") {
			t.Errorf("steps are %s", names)
		}
	}
	_, err = FromEnvironment([]string{bootenv.Seal + "=tmp", "MSB_HOSTNAME=m"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Field != bootenv.Seal {
		t.Errorf("another value: %v", err)
	}
}

func TestShareInMemory(t *testing.T) {
	environ := []string{bootenv.Share + "=" + bootenv.ShareInMemory}
	byMessage, err := FromBootstrap(&wire.Bootstrap{}, environ)
	if err != nil {
		t.Fatal(err)
	}
	byVariables, err := FromEnvironment(append(environ, "MSB_HOSTNAME=m"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "share tmpfs /.msb tmpfs nosuid,nodev size=16777216,mode=755"
	for _, p := range []*Plan{byMessage, byVariables} {
		if !strings.Contains(p.String(), want) {
			t.Errorf("want a step %q in\n%s", want, p)
		}
	}
	_, err = FromBootstrap(&wire.Bootstrap{}, []string{bootenv.Share + "=ext4"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Field != bootenv.Share {
		t.Errorf("another file system: %v", err)
	}
}
