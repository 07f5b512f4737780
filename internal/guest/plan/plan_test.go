package plan

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// kernelEnv is what every kernel adds on its own, and what the monitor of the
// variable hosts leaves behind.
var kernelEnv = []string{"HOME=/", "TERM=linux", "KRUN_ENV=", "KRUN_WORKDIR=/"}

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite it with -update)\n--- got\n%s--- want\n%s", file, got, want)
	}
}

// environments are those that a host of generation 4 sends: the four in
// docs/BOOT.md section 4, and one for the fallback without a kind.
var environments = map[string][]string{
	"env-network": {
		"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4",
		"MSB_SECURITY_PROFILE=default",
		"MSB_HOSTNAME=web-1",
		"LANG=C.UTF-8",
		"PATH=/.msb/scripts:/usr/local/bin:/usr/bin:/bin",
		"MSB_NET=iface=eth0,mac=02:6d:73:00:2a:02,mtu=1500",
		"MSB_HOST_ALIAS=host.microsandbox.internal",
		"MSB_NET_IPV4=addr=172.16.0.170/30,gw=172.16.0.169,dns=172.16.0.169",
		"MSB_NET_IPV6=addr=fd42:6d73:62:2a::2/64,gw=fd42:6d73:62:2a::1,dns=fd42:6d73:62:2a::1",
	},
	"env-mounts": {
		"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4",
		"MSB_TMPFS=/tmp:size=256;/cache:size=64,noexec,nosuid,nodev",
		"MSB_DIR_MOUNTS=workspace_c52ddf65:/workspace;data_bd47413b:/data:ro,noexec",
		"MSB_FILE_MOUNTS=fm_0a1b2c3d:app.conf:/etc/app.conf:ro",
		"MSB_DISK_MOUNTS=mnt_models_e07fa0f4:/mnt/models:ro,fstype=ext4;seed_388b7041:/seed",
		"MSB_RLIMITS=nofile=65535:65535;nproc=4096:8192",
		"MSB_SECURITY_PROFILE=restricted",
		"MSB_USER=1000:1000",
		"MSB_HOSTNAME=job-7",
	},
	"env-handover": {
		"MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda",
		"MSB_SECURITY_PROFILE=default",
		"MSB_HOSTNAME=vm",
		"MSB_HANDOFF_INIT=/lib/systemd/systemd",
		"MSB_HANDOFF_INIT_ARGS=--unit=multi-user.target",
		"MSB_HANDOFF_INIT_ENV=container=microsandbox",
	},
	"env-minimal": {
		"MSB_SECURITY_PROFILE=default",
		"MSB_HOSTNAME=scratch",
	},
	"env-bare-root": {
		"MSB_BLOCK_ROOT=/dev/vda",
		"MSB_HOSTNAME=fallback",
		"MSB_HANDOFF_INIT=auto",
		"MSB_RLIMITS=CORE=0;nofile=1024:18446744073709551615",
	},
}

func TestEnvironmentGolden(t *testing.T) {
	for name, env := range environments {
		t.Run(name, func(t *testing.T) {
			p, err := FromEnvironment(slices.Concat(kernelEnv, env))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".plan", p.String())
		})
	}
}

// bootstraps are those that a host of generation 7 sends: the five in
// docs/BOOT.md section 5.
func bootstraps() map[string]*wire.Bootstrap {
	root := &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}}
	gateway6 := [16]byte{253, 66, 109, 115, 0, 98, 0, 42, 15: 1}
	return map[string]*wire.Bootstrap{
		"boot-directory": {Hostname: new("scratch"), SecurityProfile: wire.ProfileDefault},
		"boot-network": {
			BlockRoot: root, Hostname: new("web-1"), HostAlias: new("host.microsandbox.internal"),
			Network: &wire.Network{
				Interface: "eth0", MAC: [6]byte{2, 109, 115, 0, 42, 2}, MTU: 1500,
				IPv4: &wire.IPv4{
					Address: [4]byte{172, 16, 0, 170}, PrefixLen: 30,
					Gateway: [4]byte{172, 16, 0, 169}, DNS: &[4]byte{172, 16, 0, 169},
				},
				IPv6: &wire.IPv6{
					Address: [16]byte{253, 66, 109, 115, 0, 98, 0, 42, 15: 2}, PrefixLen: 64,
					Gateway: gateway6, DNS: &gateway6,
				},
			},
			DefaultCwd: new("/app"),
			DefaultEnv: []wire.EnvVar{
				{Key: "PATH", Value: "/usr/local/bin:/usr/bin:/bin"},
				{Key: "OPENAI_API_KEY", Value: "$MSB_OPENAI_API_KEY"},
			},
			SecurityProfile: wire.ProfileDefault,
		},
		"boot-mounts": {
			BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperTmpfs{SizeMiB: new(uint32(512))}},
			DirMounts: []wire.DirMount{{Tag: "workspace_c52ddf65", GuestPath: "/workspace"}},
			FileMounts: []wire.FileMount{{
				Tag: "fm_0a1b2c3d", Filename: "app.toml", GuestPath: "/workspace/persist/app.toml",
				Flags: wire.MountFlags{ReadOnly: true, NoExec: true},
			}},
			DiskMounts: []wire.DiskMount{{ID: "workspace_p_e576ea72", GuestPath: "/workspace/persist", FSType: new("ext4")}},
			TmpfsMounts: []wire.TmpfsMount{{
				Path: "/workspace/persist/cache", SizeMiB: new(uint32(64)),
				Flags: wire.MountFlags{NoExec: true, NoSuid: true, NoDev: true},
			}},
			Hostname: new("job-7"), Rlimits: []wire.Rlimit{{Resource: "nofile", Soft: 4096, Hard: 65535}},
			User: new("1000:1000"), SecurityProfile: wire.ProfileRestricted,
		},
		"boot-handover": {
			BlockRoot: &wire.DiskImage{Device: "/dev/vda"}, Hostname: new("vm"),
			SecurityProfile: wire.ProfileDefault,
			HandoffInit: &wire.HandoffInit{
				Cmd: "/lib/systemd/systemd", Args: []string{"--unit=multi-user.target"},
				Cwd: new("/opt/app"), Env: []wire.EnvVar{{Key: "container", Value: "microsandbox"}},
			},
		},
		"boot-minimal": {SecurityProfile: wire.ProfileDefault},
	}
}

func TestBootstrapGolden(t *testing.T) {
	for name, b := range bootstraps() {
		t.Run(name, func(t *testing.T) {
			p, err := FromBootstrap(b, kernelEnv)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".plan", p.String())
		})
	}
}

// odd has names that nothing forbids and that a line of text must survive.
func odd() *Plan {
	return &Plan{
		Source: Bootstrap, Generation: 7,
		Steps: []Step{
			Limits{Limits: []Limit{{Resource: 15, Soft: 0, Hard: Infinity}, {Resource: 200}}},
			BlockRoot{DiskImage: &Mount{Source: "/dev/a b", Target: NewRoot, Type: "x;y"}},
			Handshake{User: "two words"},
			DirMount{Mount{Source: "tag\n", Target: "/da\tta", Type: "virtiofs", Flags: 1<<5 - 1}},
			FileMount{Tag: `t"`, Filename: `\`, Path: "/f\xff"},
			DiskMount{ID: "\u2028", Path: "/ü"},
			TmpfsMount{Mount{Source: "tmpfs", Target: "/t", Type: "tmpfs", Data: "mode=0", Optional: true}},
			Handshake{User: "none"},
			DiskMount{ID: "none", Path: "/d", Type: "probe"},
			Hostname{Host: "a b"},
			Interface{Device: "eth0"},
			Resolver{Content: "nameserver 1.1.1.1\n"},
			Handover{Init: "auto", Args: []string{"", "a b"}, Env: []string{"SECRET=hidden", "PATH=/x y"}},
		},
		Commands: Commands{Cwd: "/a b", Env: []string{"SECRET=hidden", "PATH=/bin"}, Restricted: true},
	}
}

func TestPrintedPlanHasOneLineForEachStep(t *testing.T) {
	text := odd().String()
	golden(t, "odd.plan", text)
	if got, want := strings.Count(text, "\n"), len(odd().Steps)+2; got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
	if strings.Contains(text, "hidden") {
		t.Error("the text shows the value of a variable")
	}
}

// TestOrder has every step of the fullest plan of each source, by name.
//
//holds:boot 12: `core.init.resolved` first, with the ids of the image's accounts, before any mount of the user's
func TestOrder(t *testing.T) {
	env := slices.Concat(environments["env-network"], environments["env-mounts"][1:8], environments["env-handover"][3:])
	b := bootstraps()["boot-mounts"]
	b.Network = bootstraps()["boot-network"].Network
	b.HandoffInit = bootstraps()["boot-handover"].HandoffInit
	head := "limits mounts share block-root handshake "
	tail := "temp-dirs loopback interface resolver trust profile run-dirs handover"
	fromEnv, err := FromEnvironment(env)
	if err != nil {
		t.Fatal(err)
	}
	fromBoot, err := FromBootstrap(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		plan *Plan
		want string
	}{
		{fromEnv, "2*dir-mount file-mount 2*disk-mount hostname hosts 2*tmpfs-mount "},
		{fromBoot, "dir-mount disk-mount file-mount tmpfs-mount hostname hosts "},
	} {
		if got, want := stepNames(c.plan), head+c.want+tail; got != want {
			t.Errorf("%s\n got %s\nwant %s", c.plan.Source, got, want)
		}
	}
}

// stepNames returns the names of the steps, with a count before those that
// follow themselves.
func stepNames(p *Plan) string {
	var names []string
	for rest := p.Steps; len(rest) > 0; {
		name, n := rest[0].Name(), 1
		for n < len(rest) && rest[n].Name() == name {
			n++
		}
		rest = rest[n:]
		if n > 1 {
			name = strconv.Itoa(n) + "*" + name
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func TestStepStringsBeginWithTheName(t *testing.T) {
	steps := slices.Concat(odd().Steps, []Step{
		essential(), share(), HostsFile{}, TempDirs{}, Loopback{}, Trust{}, ProfileBlock{}, RunDirs{}, Seal{},
	})
	seen := map[string]bool{}
	for _, s := range steps {
		s.sealed()
		seen[s.Name()] = true
		if !strings.HasPrefix(s.String(), s.Name()) {
			t.Errorf("%T prints %q", s, s)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d kinds of step have a name of their own, want 20", len(seen))
	}
}

func TestConfigured(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    bool
	}{
		{nil, false},
		{kernelEnv, false},
		{[]string{"MSB_HOSTNAME="}, false},
		{[]string{"MSB_HOSTNAME= \t\u00a0"}, false},
		{[]string{"MSB_FUTURE=1", "msb_hostname=a", "XMSB_HOSTNAME=a"}, false},
		{[]string{"MSB_HOSTNAME"}, false},
		{[]string{"MSB_HOSTNAME=a", "MSB_HOSTNAME="}, false},
		{[]string{"MSB_HOSTNAME=a"}, true},
		{[]string{"MSB_TMPFS=\xff"}, true},
		{[]string{"MSB_HANDOFF_INIT_ARGS=x"}, true},
	} {
		if got := Configured(c.environ); got != c.want {
			t.Errorf("Configured(%q) = %v", c.environ, got)
		}
	}
	for _, v := range variables() {
		if !Configured([]string{v.name + "=x"}) {
			t.Errorf("%s alone does not count", v.name)
		}
	}
}

func TestEssentialMounts(t *testing.T) {
	golden(t, "essential.txt", strings.ReplaceAll(essential().String(), "; ", "\n")+"\n")
	var early []string
	for _, m := range EarlyMounts() {
		early = append(early, m.Target)
	}
	if !slices.Equal(early, []string{"/dev", "/sys"}) {
		t.Errorf("early mounts are %q", early)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		flags Flags
		want  string
	}{
		{0, "rw"},
		{ReadOnly, "ro"},
		{NoDev | NoExec, "noexec,nodev"},
		{ReadOnly | NoExec | NoSUID | NoDev | RelAtime, "ro,noexec,nosuid,nodev,relatime"},
	} {
		if got := c.flags.String(); got != c.want {
			t.Errorf("%#x prints %q, want %q", uint8(c.flags), got, c.want)
		}
	}
}

func TestResourcesAreNumberedAsInTheKernel(t *testing.T) {
	numbers := map[string]Resource{
		"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
		"memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
	}
	if len(numbers) != len(resources) {
		t.Fatalf("%d resources", len(resources))
	}
	for name, want := range numbers {
		for _, spelled := range []string{name, strings.ToUpper(name)} {
			if got, ok := ParseResource(spelled); !ok || got != want || got.String() != name {
				t.Errorf("ParseResource(%q) = %d %v %v, want %d", spelled, got, got, ok, want)
			}
		}
	}
	for _, name := range []string{"", "files", " nofile", "RLIMIT_NOFILE"} {
		if r, ok := ParseResource(name); ok {
			t.Errorf("ParseResource(%q) = %v", name, r)
		}
	}
}

func TestHandoverCandidates(t *testing.T) {
	if got := (Handover{Init: "/init"}).Candidates(); !slices.Equal(got, []string{"/init"}) {
		t.Errorf("a path has the candidates %q", got)
	}
	want := []string{"/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"}
	if got := (Handover{Init: AutoInit}).Candidates(); !slices.Equal(got, want) {
		t.Errorf("auto has the candidates %q", got)
	}
}

func TestFileMountStaging(t *testing.T) {
	if got := (FileMount{Tag: "fm_1"}).Staging(); got != "/.msb/file-mounts/fm_1" {
		t.Errorf("staged at %q", got)
	}
}

func TestDiskData(t *testing.T) {
	for _, c := range []struct {
		flags  Flags
		fstype string
		want   string
	}{
		{ReadOnly, "ext4", "noload"},
		{ReadOnly | RelAtime, "ext4", "noload"},
		{0, "ext4", ""},
		{ReadOnly, "xfs", ""},
		{ReadOnly, "", ""},
	} {
		if got := (DiskMount{Flags: c.flags}).Data(c.fstype); got != c.want {
			t.Errorf("%v %q: data %q, want %q", c.flags, c.fstype, got, c.want)
		}
	}
}
