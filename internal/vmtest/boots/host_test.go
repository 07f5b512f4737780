package boots

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// A guest is a machine with a host's configuration, and the expected state in it.
type guest struct {
	cfg     sandbox.Config
	mounts  []string // Beginnings of lines of /proc/self/mounts.
	scripts []string // Each followed by its output.
	has     []string // Scripts, each followed by what must be in what they print.
	disks   []string // That must be left clean.
	init    bool     // PID 1 is handed over: most of what is common is the init's affair.
}

// words are a configuration by variables, as a published host of generation 4
// writes it on the kernel command line.
func (g *guest) words(words ...string) {
	g.cfg.Configuration, hooks.Of(&g.cfg).ExtraWords = sandbox.ByEnvironment, words
}

// run boots it on the kernel, looks at everything and ends it.
func (g *guest) run(t *testing.T, kernel string) {
	t.Helper()
	g.cfg.Kernel = kernel
	m := vmtest.Start(t, g.cfg)
	if times := m.Client().Agent(); times.Started > times.Ready || times.Started+times.Setup > times.Ready {
		t.Errorf("times %+v: the machine was ready before its boot was over", times)
	}
	all := say(t, m, "cat /proc/self/mounts")
	if !g.init {
		g.mounts = append(g.mounts, essential...)
		g.scripts = append(g.scripts, common...)
	}
	for _, want := range g.mounts {
		if !strings.Contains("\n"+all, "\n"+want) {
			t.Errorf("no mount %q in\n%s", want, all)
		}
	}
	expect(t, m, g.scripts...)
	for i := 0; i+1 < len(g.has); i += 2 {
		if got := say(t, m, g.has[i]); !strings.Contains(got, g.has[i+1]) {
			t.Errorf("%s: %q is not in\n%s", g.has[i], g.has[i+1], got)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, disk := range g.disks {
		clean(t, disk)
	}
}

// essential are the mounts of every machine (boot sections 8 and 9).
var essential = []string{
	"devtmpfs /dev devtmpfs rw,relatime",
	"proc /proc proc rw,nosuid,nodev,noexec,relatime",
	"sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime",
	"cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime",
	"devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666",
	"tmpfs /dev/shm tmpfs rw,nosuid,noexec,relatime",
	"msb_runtime /.msb virtiofs rw,nosuid,nodev,relatime",
}

// common holds in every machine (boot sections 8, 9, 14, 16, 17, 19, 20, 24).
var common = []string{
	"for f in fd stdin stdout stderr; do readlink /dev/$f; done", "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n",
	"ls -d /.msb/scripts; ls -d /.msb/file-mounts /newroot 2>/dev/null || echo gone", "/.msb/scripts\ngone\n",
	"stat -c '%n %a' /tmp /var/tmp /run /run/microsandbox", "/tmp 1777\n/var/tmp 1777\n/run 755\n/run/microsandbox 755\n",
	"cat /sys/class/net/lo/flags", "0x9\n", // Up and loopback.
	"ping -c 1 -W 5 127.0.0.1 >/dev/null && ping6 -c 1 -W 5 ::1 >/dev/null && echo both", "both\n",
	"printf '#!/bin/sh\\n' >/.msb/scripts/tool; chmod +x /.msb/scripts/tool; sh -lc 'command -v tool'", "/.msb/scripts/tool\n",
	"grep -c heartbeat_seq /.msb/heartbeat.json", "1\n",
	"cat /proc/1/comm; ls -l /proc/*/fd 2>/dev/null | grep -c vport", "agentd\n1\n",
}

// base is the EROFS lower and ext4 upper of an image.
func base(t *testing.T) (lower, upper sandbox.Disk) {
	t.Helper()
	return sandbox.Disk{Path: vmtest.Disk(t, "erofs", appRoot(t)), ReadOnly: true}, sandbox.Disk{Path: vmtest.Disk(t, "ext4", "")}
}

// appRoot is a root with a directory /app.
func appRoot(t *testing.T) string {
	t.Helper()
	dir := vmtest.Root(t)
	put(t, filepath.Join(dir, "app/file"), "image\n")
	return dir
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// holding is a directory with one file.
func holding(t *testing.T, name, content string) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, name), content)
	return dir
}

const layers = ",lowerdir=/.msb/rootfs/lower,upperdir=/.msb/rootfs/upperfs/upper,workdir=/.msb/rootfs/upperfs/work"

// overlaid looks at a root of layers (boot section 10).
var overlaid = []string{
	"cat /app/file; ls -A /.msb/rootfs/upperfs; ls /init* 2>/dev/null; echo new >/new; cat /new", "image\nnew\n",
}

// networked checks the network of both examples (boot sections 15 and 17).
func (g *guest) networked(hostname string) {
	g.scripts = append(
		g.scripts,
		"hostname; cat /etc/hostname", hostname+"\n"+hostname+"\n",
		"cat /etc/hosts; stat -c %a /etc/hosts", "127.0.0.1\tlocalhost "+hostname+"\n::1\tlocalhost ip6-localhost ip6-loopback "+hostname+"\n"+
			"172.16.0.169\thost.microsandbox.internal\nfd42:6d73:62:2a::1\thost.microsandbox.internal\n"+
			"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n644\n",
		"cat /etc/resolv.conf; stat -c %a /etc/resolv.conf", "nameserver 172.16.0.169\nnameserver fd42:6d73:62:2a::1\n644\n",
		"cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu", "02:6d:73:00:2a:02\n1500\n",
		// At once: an address that is still tentative cannot be used.
		"ping6 -c 1 -W 5 fd42:6d73:62:2a::2 >/dev/null && ! ip -6 addr show dev eth0 scope global | grep tentative && echo usable", "usable\n",
	)
	g.has = append(
		g.has,
		"ip addr show dev eth0", "inet 172.16.0.170/30",
		"ip addr show dev eth0", "inet6 fd42:6d73:62:2a::2/64",
		"ip route", "default via 172.16.0.169 dev eth0",
		"ip -6 route", "default via fd42:6d73:62:2a::1 dev eth0",
	)
}

// restricted checks the commands of a restricted machine (boot section 13).
var restricted = []string{
	"grep NoNewPrivs /proc/self/status; mount -t tmpfs x /mnt 2>&1 | grep -o 'permission denied'", "NoNewPrivs:\t1\npermission denied\n",
	"grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status | while read -r n v; do echo $(( (0x$v >> 21) & 1 )); done", "0\n0\n0\n",
}

// The environments that hosts of generation 4 send boot, and everything is in its place.
//
//holds:boot 3: boot, init and ready times in order
//holds:boot 4: the four examples boot
//holds:boot 7: soft and hard limits in every command and in an init
//holds:boot 8: six mounts with types and flags in the final root; links
//holds:boot 9: `/.msb` is virtiofs, `scripts` can be listed
//holds:boot 10: overlay with its three directories; the layers are out of reach
//holds:boot 13: restricted: no new privileges, no CAP_SYS_ADMIN, no mount; nosuid and nodev on user mounts; default: neither
//holds:boot 14: directory, disk, file and tmpfs on one another, with their flags; read-only is EROFS; no `file-mounts` left
//holds:boot 14: a disk without a type is found to be ext4
//holds:boot 15: hosts byte by byte, with and without hostname and alias; the name
//holds:boot 16: `/tmp`, `/var/tmp`: mode 1777, and everybody's
//holds:boot 17: `lo` with both addresses without a network
//holds:boot 17: MAC, mtu, addresses, default routes; resolver byte by byte; IPv6 usable at ready
//holds:boot 17: no server: the resolver's file is left
//holds:boot 19: a login shell finds a script
//holds:boot 20: both directories
//holds:boot 22: PID 1 is the init, its directory, arguments with spaces and empty ones; no port
func TestEnvironments(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		all := map[string]func(*testing.T, string) guest{
			"image with network": environment1, "every mount": environment2, "systemd": environment3, "directory": environment4,
		}
		if !roomy(kernel) {
			all["the rest of the mounts"] = environment2Rest
		}
		for name, build := range all {
			t.Run(name, func(t *testing.T) {
				g := build(t, kernel)
				g.run(t, kernel)
			})
		}
	})
}

func environment1(t *testing.T, _ string) (g guest) {
	t.Helper()
	lower, upper := base(t)
	g.cfg = hooks.With(sandbox.Config{Disks: []sandbox.Disk{lower, upper}}, hooks.Machine{Card: true})
	g.words(
		"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4", "MSB_SECURITY_PROFILE=default",
		"LANG=C.UTF-8", "PATH=/.msb/scripts:/usr/local/bin:/usr/bin:/bin", "MSB_HOSTNAME=web-1",
		"MSB_NET=iface=eth0,mac=02:6d:73:00:2a:02,mtu=1500", "MSB_HOST_ALIAS=host.microsandbox.internal",
		"MSB_NET_IPV4=addr=172.16.0.170/30,gw=172.16.0.169,dns=172.16.0.169",
		"MSB_NET_IPV6=addr=fd42:6d73:62:2a::2/64,gw=fd42:6d73:62:2a::1,dns=fd42:6d73:62:2a::1",
	)
	g.mounts, g.disks = []string{"overlay / overlay rw,relatime" + layers}, []string{upper.Path}
	g.scripts = append(slices.Clone(overlaid), "env | grep -c MSB_; echo $LANG", "0\nC.UTF-8\n")
	g.networked("web-1")
	return g
}

// environment2 is every kind of mount under the restricted profile. A machine
// without ACPI has no room for all devices: its directories and files come in
// environment2Rest.
func environment2(t *testing.T, kernel string) (g guest) {
	t.Helper()
	lower, upper := base(t)
	models := sandbox.Disk{Path: vmtest.Disk(t, "ext4", holding(t, "model", "weights\n")), Serial: "mnt_models_e07fa0f4"}
	seed := sandbox.Disk{Path: vmtest.Disk(t, "ext4", holding(t, "seed", "seed\n")), Serial: "seed_388b7041"}
	g.cfg = sandbox.Config{Disks: []sandbox.Disk{lower, upper, models, seed}}
	words := []string{
		"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4",
		"MSB_TMPFS=/tmp:size=256;/cache:size=64,noexec,nosuid,nodev",
		"MSB_DISK_MOUNTS=mnt_models_e07fa0f4:/mnt/models:ro,fstype=ext4;seed_388b7041:/seed",
		"MSB_RLIMITS=nofile=65535:65535;nproc=4096:8192", "MSB_SECURITY_PROFILE=restricted", "MSB_USER=1000:1000", "MSB_HOSTNAME=job-7",
	}
	g.disks = []string{upper.Path, models.Path, seed.Path}
	g.mounts = []string{
		"overlay / overlay rw,relatime" + layers,
		"/dev/vdc /mnt/models ext4 ro,nosuid,nodev,relatime", "/dev/vdd /seed ext4 rw,nosuid,nodev,relatime",
		"tmpfs /tmp tmpfs rw,nosuid,nodev,relatime,size=262144k", "tmpfs /cache tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k,mode=755",
	}
	g.scripts = append(
		slices.Concat(overlaid, restricted, refusesWrites("/mnt/models")), "cat /mnt/models/model /seed/seed; echo kept >/seed/new", "weights\nseed\n",
		"hostname; tail -n +3 /etc/hosts | head -n 1", "job-7\nfe00::\tip6-localnet\n",
		`grep -E 'Max (open files|processes)' /proc/self/limits | tr -s ' '; grep 'open files' /proc/1/limits | tr -s ' '`,
		"Max processes 4096 8192 processes \nMax open files 65535 65535 files \nMax open files 65535 65535 files \n",
	)
	if roomy(kernel) {
		words = append(words, g.addRest(t)...)
	}
	g.words(words...)
	return g
}

// environment2Rest is the rest of environment2 in a machine of its own.
func environment2Rest(t *testing.T, _ string) (g guest) {
	t.Helper()
	g.words(append(g.addRest(t), "MSB_SECURITY_PROFILE=restricted", "MSB_USER=1000:1000", "MSB_HOSTNAME=job-7")...)
	return g
}

// addRest adds the directories and the file of environment 2.
func (g *guest) addRest(t *testing.T) (words []string) {
	t.Helper()
	g.cfg.Shares = []sandbox.Share{
		{Tag: "workspace_c52ddf65", Dir: holding(t, "work", "work\n")},
		{Tag: "data_bd47413b", Dir: holding(t, "data", "data\n")},
		{Tag: "fm_0a1b2c3d", Dir: holding(t, "app.conf", "conf\n")},
	}
	g.mounts = append(
		g.mounts,
		"workspace_c52ddf65 /workspace virtiofs rw,nosuid,nodev,relatime", "data_bd47413b /data virtiofs ro,nosuid,nodev,noexec,relatime",
		"fm_0a1b2c3d /etc/app.conf virtiofs ro,nosuid,nodev,relatime",
	)
	g.scripts = append(g.scripts, refusesWrites("/data")...)
	g.scripts = append(
		g.scripts, "cat /workspace/work /data/data /etc/app.conf; echo >/workspace/new", "work\ndata\nconf\n",
		"echo >/etc/app.conf || true", "sh: can't create /etc/app.conf: Read-only file system\n",
	)
	return []string{"MSB_DIR_MOUNTS=workspace_c52ddf65:/workspace;data_bd47413b:/data:ro,noexec", "MSB_FILE_MOUNTS=fm_0a1b2c3d:app.conf:/etc/app.conf:ro"}
}

func refusesWrites(dir string) []string {
	return []string{"echo >" + dir + "/x || true", "sh: can't create " + dir + "/x: Read-only file system\n"}
}

func environment4(t *testing.T, _ string) (g guest) {
	t.Helper()
	g.words("MSB_SECURITY_PROFILE=default", "MSB_HOSTNAME=scratch")
	g.scripts = []string{
		"hostname", "scratch\n",
		"ls /etc/resolv.conf 2>/dev/null || echo none", "none\n",
		"grep NoNewPrivs /proc/self/status; mount -t tmpfs x /mnt && echo mounted", "NoNewPrivs:\t0\nmounted\n",
	}
	return g
}

// systemd is the init of both examples with one, on a disk with a Debian root.
func (g *guest) systemd(t *testing.T) *guest {
	t.Helper()
	disk := vmtest.Disk(t, "ext4", vmtest.Debian(t))
	tool(t, "debugfs", "-w", "-R", "mkdir /opt/app", disk)
	g.cfg.Disks, g.disks, g.init = []sandbox.Disk{{Path: disk}}, []string{disk}, true
	g.mounts = []string{"/dev/vda / ext4 rw,relatime"}
	g.scripts = []string{
		"cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline; tr '\\0' '\\n' </proc/1/environ | grep container",
		"systemd\n/lib/systemd/systemd --unit=multi-user.target container=microsandbox\n",
		"hostname; head -n 1 /etc/hosts; tr a-z A-Z </etc/hostname", "vm\n127.0.0.1\tlocalhost vm\nVM\n",
		"awk '/PPid/{print $2}' /proc/$PPID/status; cat /proc/$PPID/comm; ls /proc/1/fd -l 2>/dev/null | grep -c vport || true", "1\nagentd\n0\n",
	}
	return g
}

func environment3(t *testing.T, _ string) (g guest) {
	t.Helper()
	g.words(
		"MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda", "MSB_SECURITY_PROFILE=default", "MSB_HOSTNAME=vm",
		"MSB_HANDOFF_INIT=/lib/systemd/systemd", "MSB_HANDOFF_INIT_ARGS=--unit=multi-user.target", "MSB_HANDOFF_INIT_ENV=container=microsandbox",
	)
	return *g.systemd(t)
}

func bootstrap4(t *testing.T) (g guest) {
	t.Helper()
	hooks.Of(&g.cfg).Bootstrap = &wire.Bootstrap{
		BlockRoot: &wire.DiskImage{Device: "/dev/vda"}, Hostname: new("vm"), SecurityProfile: wire.ProfileDefault,
		HandoffInit: &wire.HandoffInit{
			Cmd: "/lib/systemd/systemd", Args: []string{"--unit=multi-user.target"}, Cwd: new("/opt/app"),
			Env: []wire.EnvVar{{Key: "container", Value: "microsandbox"}},
		},
	}
	return *g.systemd(t)
}

// A Debian root boots as a directory too, with its own shell, accounts and files.
//
//holds:boot 19: a login shell finds a script
func TestDebianDirectory(t *testing.T) {
	root := vmtest.DebianRoot(t)
	m := vmtest.Start(t, hooks.With(sandbox.Config{Kernel: vmtest.Kernels(t)[0], Root: root, Runtime: runtime(t)}, hooks.Machine{Bootstrap: &wire.Bootstrap{Hostname: new("box"), User: new("nobody")}}))
	expect(
		t, m,
		"grep -c debian /etc/os-release >/dev/null && hostname && id -u", "box\n0\n",
		"bash -lc 'echo $PATH' | cut -d: -f1", "/.msb/scripts\n",
		"stat -c '%a %U' /tmp /var/tmp", "1777 root\n1777 root\n",
		"tail -n 3 "+bundle, authorities, "getent hosts box >/dev/null && echo found", "found\n",
	)
}

// The messages that hosts of generation 7 send boot, and everything is in its place.
//
//holds:boot 3: boot, init and ready times in order
//holds:boot 5: the five examples boot
//holds:boot 6: by variables nothing is waited for before `core.init.resolved`; by message no `MSB_*` is needed; never both
//holds:boot 8: six mounts with types and flags in the final root; links
//holds:boot 9: `/.msb` is virtiofs, `scripts` can be listed
//holds:boot 10: overlay with its three directories; the layers are out of reach
//holds:boot 11: the kernel learns the upper's path, also late; without the device the machine boots
//holds:boot 13: restricted: no new privileges, no CAP_SYS_ADMIN, no mount; nosuid and nodev on user mounts; default: neither
//holds:boot 14: directory, disk, file and tmpfs on one another, with their flags; read-only is EROFS; no `file-mounts` left
//holds:boot 15: hosts byte by byte, with and without hostname and alias; the name
//holds:boot 17: MAC, mtu, addresses, default routes; resolver byte by byte; IPv6 usable at ready
//holds:boot 21: `default_env`, PATH with the scripts once, HOME from the accounts
//holds:boot 22: PID 1 is the init, its directory, arguments with spaces and empty ones; no port
func TestBootstraps(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		for name, build := range map[string]func(*testing.T) guest{
			"directory": bootstrap1, "image with network": bootstrap2, "every mount": bootstrap3, "systemd": bootstrap4, "profile alone": bootstrap5,
		} {
			t.Run(name, func(t *testing.T) {
				g := build(t)
				g.run(t, kernel)
			})
		}
	})
}

func bootstrap1(t *testing.T) (g guest) {
	t.Helper()
	hooks.Of(&g.cfg).Bootstrap = &wire.Bootstrap{Hostname: new("scratch"), SecurityProfile: wire.ProfileDefault}
	g.scripts = []string{"hostname", "scratch\n"}
	return g
}

func bootstrap2(t *testing.T) (g guest) {
	t.Helper()
	lower, upper := base(t)
	gateway, address := [16]byte{0xfd, 0x42, 0x6d, 0x73, 0, 0x62, 0, 0x2a, 15: 1}, [16]byte{0xfd, 0x42, 0x6d, 0x73, 0, 0x62, 0, 0x2a, 15: 2}
	g.cfg = hooks.With(sandbox.Config{Disks: []sandbox.Disk{lower, upper}}, hooks.Machine{Card: true, Bootstrap: &wire.Bootstrap{
		BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}},
		Hostname:  new("web-1"), HostAlias: new("host.microsandbox.internal"),
		Network: &wire.Network{
			Interface: "eth0", MAC: [6]byte{2, 109, 115, 0, 42, 2}, MTU: 1500,
			IPv4: &wire.IPv4{Address: [4]byte{172, 16, 0, 170}, PrefixLen: 30, Gateway: [4]byte{172, 16, 0, 169}, DNS: &[4]byte{172, 16, 0, 169}},
			IPv6: &wire.IPv6{Address: address, PrefixLen: 64, Gateway: gateway, DNS: &gateway},
		},
		DefaultCwd: new("/app"), SecurityProfile: wire.ProfileDefault,
		DefaultEnv: []wire.EnvVar{{Key: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"}, {Key: "OPENAI_API_KEY", Value: "$MSB_OPENAI_API_KEY"}},
	}})
	g.mounts, g.disks = []string{"overlay / overlay rw,relatime" + layers}, []string{upper.Path}
	g.scripts = append(
		slices.Clone(overlaid), `pwd; echo "$OPENAI_API_KEY $PATH $HOME"`,
		"/app\n$MSB_OPENAI_API_KEY /.msb/scripts:/usr/local/bin:/usr/bin:/bin /root\n",
	)
	g.networked("web-1")
	return g
}

func bootstrap3(t *testing.T) (g guest) {
	t.Helper()
	disk := sandbox.Disk{Path: vmtest.Disk(t, "ext4", ""), Serial: "workspace_p_e576ea72"}
	size, tmp := uint32(512), uint32(64)
	g.cfg = hooks.With(sandbox.Config{
		Disks:  []sandbox.Disk{{Path: vmtest.Disk(t, "erofs", appRoot(t)), ReadOnly: true}, disk},
		Shares: []sandbox.Share{{Tag: "workspace_c52ddf65", Dir: holding(t, "work", "work\n")}, {Tag: "fm_0a1b2c3d", Dir: holding(t, "app.toml", "toml\n")}},
	}, hooks.Machine{Bootstrap: &wire.Bootstrap{
		BlockRoot:   &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperTmpfs{SizeMiB: &size}},
		DirMounts:   []wire.DirMount{{Tag: "workspace_c52ddf65", GuestPath: "/workspace"}},
		FileMounts:  []wire.FileMount{{Tag: "fm_0a1b2c3d", Filename: "app.toml", GuestPath: "/workspace/persist/app.toml", Flags: wire.MountFlags{ReadOnly: true, NoExec: true}}},
		DiskMounts:  []wire.DiskMount{{ID: "workspace_p_e576ea72", GuestPath: "/workspace/persist", FSType: new("ext4")}},
		TmpfsMounts: []wire.TmpfsMount{{Path: "/workspace/persist/cache", SizeMiB: &tmp, Flags: wire.MountFlags{NoExec: true, NoSuid: true, NoDev: true}}},
		Hostname:    new("job-7"), User: new("1000:1000"), SecurityProfile: wire.ProfileRestricted,
		Rlimits: []wire.Rlimit{{Resource: "nofile", Soft: 4096, Hard: 65535}},
	}})
	g.disks = []string{disk.Path}
	g.mounts = []string{
		"overlay / overlay rw,relatime" + layers, "workspace_c52ddf65 /workspace virtiofs rw,nosuid,nodev,relatime",
		"/dev/vdb /workspace/persist ext4 rw,nosuid,nodev,relatime", "fm_0a1b2c3d /workspace/persist/app.toml virtiofs ro,nosuid,nodev,noexec,relatime",
		"tmpfs /workspace/persist/cache tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k,mode=755",
	}
	g.scripts = append(
		slices.Concat(overlaid, restricted), "cat /workspace/work /workspace/persist/app.toml; ls /workspace/persist; ulimit -n; ulimit -Hn",
		"work\ntoml\napp.toml\ncache\nlost+found\n4096\n65535\n",
	)
	return g
}

func bootstrap5(t *testing.T) (g guest) {
	t.Helper()
	hooks.Of(&g.cfg).Bootstrap = &wire.Bootstrap{SecurityProfile: wire.ProfileDefault}
	g.scripts = []string{
		"cat /etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
		"ls /etc/hostname 2>/dev/null || echo none", "none\n",
		"ulimit -a >/dev/null; pwd; echo $PATH", "/\n/.msb/scripts:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
	}
	return g
}
