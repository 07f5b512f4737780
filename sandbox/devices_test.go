package sandbox_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// kernels are those to test with: the newest that takes its root by itself, and
// the newest that takes an initramfs. Without any the test is skipped, or fails
// if AGENTD_REQUIRE_MACHINES=1.
func kernels(t *testing.T) (names []string) {
	t.Helper()
	all, err := allKernels()
	if err != nil {
		t.Fatal(err)
	}
	found := map[bool]bool{}
	for _, k := range all {
		if !found[k.Modules] {
			found[k.Modules] = true
			names = append(names, k.Name)
		}
	}
	_, qemu := exec.LookPath("qemu-system-x86_64")
	switch {
	case qemu == nil && len(names) > 0:
	case os.Getenv("AGENTD_REQUIRE_MACHINES") == "1":
		t.Fatalf("machines are required: %d kernels, %v", len(names), qemu)
	default:
		t.Skipf("no machine can run here: %d kernels, %v", len(names), qemu)
	}
	return names
}

// agentFile is the guest's binary, built once.
var agentFile = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("AGENTD_AGENT"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "devices-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "agentd")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-o", path, "github.com/agentd-go/agentd/cmd/agentd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	site, err := prepareExamples()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := vmtest.MainWithExamples(m)
	_ = os.RemoveAll(site)
	if path, err := agentFile(); err == nil && os.Getenv("AGENTD_AGENT") == "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// start starts a machine that must end by itself, with all of its files written.
func start(t *testing.T, cfg sandbox.Config) *sandbox.Machine {
	t.Helper()
	m, err := tryStart(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, m) })
	return m
}

func tryStart(t *testing.T, cfg sandbox.Config) (*sandbox.Machine, error) {
	t.Helper()
	agent, err := agentFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Agent, cfg.Debug = agent, []string{"boot"}
	return sandbox.Start(t.Context(), cfg)
}

// stop may be called twice.
func stop(t *testing.T, m *sandbox.Machine) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Errorf("the end: %v", err)
	}
	for line := range strings.Lines(string(m.Console())) {
		for _, fault := range []string{"undo of ", "the root: ", "ending the machine as it is", "panic"} {
			if strings.Contains(line, fault) {
				t.Errorf("console: %s", line)
			}
		}
	}
}

// say runs a script in the machine.
func say(t *testing.T, m *sandbox.Machine, script string) string {
	t.Helper()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := m.Client().CommandContext(ctx, "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func text(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tool runs a program of the host's.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// ext4 makes a disk with the content of dir; "" means an empty one.
func ext4(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ext4")
	args := []string{"-q", "-F"}
	if dir != "" {
		args = append(args, "-d", dir)
	}
	tool(t, "mkfs.ext4", append(args, path, "32M")...)
	return path
}

func erofs(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "erofs")
	tool(t, "mkfs.erofs", path, dir)
	return path
}

// clean says that a disk needs no recovery.
func clean(t *testing.T, path string) {
	t.Helper()
	if head := tool(t, "dumpe2fs", "-h", path); strings.Contains(head, "needs_recovery") || !strings.Contains(head, "has_journal") {
		t.Errorf("the disk was not left clean:\n%s", head)
	}
	tool(t, "e2fsck", "-f", "-n", path)
}

// busyboxRoot is a small root to make images from.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	busybox, err := image.FindBusybox()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := image.BusyboxRoot(dir, busybox); err != nil {
		t.Fatal(err)
	}
	text(t, dir+"/from", "image\n")
	return dir
}

// userMachine is a machine with one mount of each kind, and the files for it.
type userMachine struct {
	data, disk string
	cfg        sandbox.Config
}

func newUserMachine(t *testing.T) userMachine {
	t.Helper()
	u := userMachine{data: t.TempDir(), disk: ext4(t, "")}
	read, file := t.TempDir(), t.TempDir()
	text(t, u.data+"/in", "data\n")
	text(t, read+"/in", "read\n")
	text(t, file+"/one.conf", "one\n")
	text(t, file+"/other.conf", "other\n")
	size, mode := uint32(4), uint32(0o1777)
	u.cfg = hooks.With(sandbox.Config{
		Shares: []sandbox.Share{{Tag: "data_bd47413b", Dir: u.data}, {Tag: "read", Dir: read}, {Tag: "fm_0a1b2c3d", Dir: file}},
		Disks:  []sandbox.Disk{{Path: u.disk, Serial: "cache_4f7cfe6f"}},
	}, hooks.Machine{Bootstrap: &wire.Bootstrap{
		SecurityProfile: wire.ProfileRestricted,
		DirMounts: []wire.DirMount{
			{Tag: "data_bd47413b", GuestPath: "/data"},
			{Tag: "read", GuestPath: "/srv/read", Flags: wire.MountFlags{ReadOnly: true, NoExec: true}},
		},
		FileMounts:  []wire.FileMount{{Tag: "fm_0a1b2c3d", Filename: "one.conf", GuestPath: "/etc/app/one.conf", Flags: wire.MountFlags{ReadOnly: true}}},
		DiskMounts:  []wire.DiskMount{{ID: "cache_4f7cfe6f", GuestPath: "/data/cache"}},
		TmpfsMounts: []wire.TmpfsMount{{Path: "/data/cache/tmp", SizeMiB: &size, Mode: &mode}},
	}, ExtraWords: []string{
		"MSB_SECURITY_PROFILE=restricted", "MSB_DIR_MOUNTS=data_bd47413b:/data;read:/srv/read:ro,noexec",
		"MSB_FILE_MOUNTS=fm_0a1b2c3d:one.conf:/etc/app/one.conf:ro", "MSB_DISK_MOUNTS=cache_4f7cfe6f:/data/cache",
		"MSB_TMPFS=/data/cache/tmp:size=4,mode=1777",
	}})
	return u
}

// Mounts of each kind, configured in both ways.
func TestUserMounts(t *testing.T) {
	for _, kernel := range kernels(t) {
		for way, name := range []string{"bootstrap", "environment"} {
			t.Run(kernel+"/"+name, func(t *testing.T) {
				u := newUserMachine(t)
				u.cfg.Kernel, u.cfg.Configuration = kernel, sandbox.Configuration(way)
				if u.cfg.Configuration == sandbox.ByBootstrap {
					hooks.Of(&u.cfg).ExtraWords = nil
				}
				m := start(t, u.cfg)
				u.check(t, m)
				stop(t, m)
				clean(t, u.disk)
				if b, err := os.ReadFile(u.data + "/out"); string(b) != "out\n" {
					t.Errorf("the share holds %q, %v", b, err)
				}
			})
		}
	}
}

func (u userMachine) check(t *testing.T, m *sandbox.Machine) {
	t.Helper()
	for script, want := range map[string]string{
		"cat /data/in; echo out >/data/out":                                                    "data\n",
		"cat /srv/read/in; echo >/srv/read/out || true":                                        "read\nsh: can't create /srv/read/out: Read-only file system\n",
		"cat /etc/app/one.conf; ls /etc/app":                                                   "one\none.conf\n",
		"echo >/etc/app/one.conf || true":                                                      "sh: can't create /etc/app/one.conf: Read-only file system\n",
		"ls -d /.msb/file-mounts 2>/dev/null || echo gone":                                     "gone\n",
		"echo kept >/data/cache/file; cat /data/cache/file":                                    "kept\n",
		"stat -c %a /data/cache/tmp":                                                           "1777\n",
		"dd if=/dev/zero of=/data/cache/tmp/f bs=1M 2>/dev/null; stat -c %s /data/cache/tmp/f": "4194304\n",
	} {
		if got := say(t, m, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	all := say(t, m, "cat /proc/self/mounts")
	for _, want := range []string{
		"data_bd47413b /data virtiofs rw,nosuid,nodev,relatime",
		"read /srv/read virtiofs ro,nosuid,nodev,noexec,relatime",
		"fm_0a1b2c3d /etc/app/one.conf virtiofs ro,nosuid,nodev,relatime",
		"/dev/vda /data/cache ext4 rw,nosuid,nodev,relatime",
		"tmpfs /data/cache/tmp tmpfs rw,nosuid,nodev,relatime,size=4096k",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

// A disk with a full journal can be read by a read-only mount, and from a read-only
// disk.
//
//holds:boot 14: ext4 with a full journal can be read, asked for read-only or on a disk that is
func TestDirtyDisk(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			path := ext4(t, "")
			disk := sandbox.Disk{Path: path, Serial: "seed"}
			mount := wire.DiskMount{ID: "seed", GuestPath: "/seed"}
			m := start(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{disk}}, hooks.Machine{Bootstrap: &wire.Bootstrap{DiskMounts: []wire.DiskMount{mount}}}))
			say(t, m, "echo kept >/seed/file; sync; echo more >/seed/other; sync /seed/other")
			if err := m.Kill(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(tool(t, "dumpe2fs", "-h", path), "needs_recovery") {
				t.Fatal("a killed machine left its disk clean")
			}
			for _, readOnly := range []bool{false, true} {
				disk.ReadOnly, mount.Flags.ReadOnly = readOnly, !readOnly
				m := start(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{disk}}, hooks.Machine{Bootstrap: &wire.Bootstrap{DiskMounts: []wire.DiskMount{mount}}}))
				got := say(t, m, "grep /seed /proc/self/mounts")
				if !strings.HasPrefix(got, "/dev/vda /seed ext4 ro,relatime") {
					t.Errorf("mounted as %s", got)
				}
				stop(t, m)
			}
		})
	}
}

// Roots on disks of all kinds.
func TestBlockRoot(t *testing.T) {
	dir := busyboxRoot(t)
	lower := sandbox.Disk{Path: erofs(t, dir), ReadOnly: true}
	for _, kernel := range kernels(t) {
		t.Run(kernel+"/erofs and ext4", func(t *testing.T) {
			upper := ext4(t, "")
			cfg := hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{lower, {Path: upper}}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
				BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}},
			}})
			checkRoot(t, cfg, "overlay / overlay rw,")
			clean(t, upper)
			m := start(t, cfg)
			if got := say(t, m, "cat /new"); got != "new\n" {
				t.Errorf("after a restart /new holds %q", got)
			}
		})
		t.Run(kernel+"/erofs and tmpfs", func(t *testing.T) {
			size := uint32(16)
			checkRoot(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{lower}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
				BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperTmpfs{SizeMiB: &size}},
			}}), "overlay / overlay rw,")
		})
		t.Run(kernel+"/ext4", func(t *testing.T) {
			disk := ext4(t, dir)
			cfg := sandbox.Config{Kernel: kernel, Configuration: sandbox.ByEnvironment, Disks: []sandbox.Disk{{Path: disk}}}
			hooks.Of(&cfg).ExtraWords = []string{"MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda"}
			checkRoot(t, cfg, "/dev/vda / ext4 rw,relatime")
			clean(t, disk)
		})
	}
}

// checkRoot starts a machine with a root that comes from busyboxRoot, looks
// around and stops it.
func checkRoot(t *testing.T, cfg sandbox.Config, want string) {
	t.Helper()
	m := start(t, cfg)
	all := say(t, m, "cat /proc/self/mounts")
	if root, _, _ := strings.Cut(all, "\n"); !strings.HasPrefix(root, want) {
		t.Errorf("the root is not %q:\n%s", want, all)
	}
	if strings.Contains(want, "overlay") && !strings.Contains(all, "lowerdir=/.msb/rootfs/lower,upperdir=/.msb/rootfs/upperfs/upper,workdir=/.msb/rootfs/upperfs/work") {
		t.Errorf("the layers are not at their places:\n%s", all)
	}
	for _, kind := range []string{"devtmpfs", "proc", "sysfs", "devpts", "virtiofs"} {
		if n := strings.Count(all, " "+kind+" "); n != 1 {
			t.Errorf("%d mounts of %s:\n%s", n, kind, all)
		}
	}
	for script, want := range map[string]string{
		"cat /from; echo new >/new; cat /new":         "image\nnew\n",
		"ls -d /.msb/scripts /.msb/rootfs/upperfs/*":  "",
		"ls -d /newroot /init* 2>/dev/null || true":   "",
		"touch /usr/by-command && ls /usr/by-command": "/usr/by-command\n",
	} {
		if got := say(t, m, script+" 2>/dev/null || true"); want != "" && got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	stop(t, m)
}

// A root that cannot be written to, not even to empty its journal, boots as it
// is; the mount points are the image's to bring.
func TestReadOnlyRoot(t *testing.T) {
	dir := busyboxRoot(t)
	if err := os.Mkdir(dir+"/.msb", 0o755); err != nil {
		t.Fatal(err)
	}
	disk := sandbox.Disk{Path: ext4(t, dir), ReadOnly: true}
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			m := start(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{disk}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
				BlockRoot: &wire.DiskImage{Device: "/dev/vda"}, TmpfsMounts: []wire.TmpfsMount{{Path: "/tmp"}},
			}}))
			if all := say(t, m, "cat /proc/self/mounts"); !strings.HasPrefix(all, "/dev/vda / ext4 ro,") {
				t.Errorf("mounts\n%s", all)
			}
			if got := say(t, m, "cat /from; touch /tmp/x; touch /x 2>/dev/null || echo refused"); got != "image\nrefused\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Images that cannot be used, and their errors.
func TestBadRoots(t *testing.T) {
	kernel := kernels(t)[0]
	t.Run("share is a link", func(t *testing.T) {
		dir := busyboxRoot(t)
		if err := os.Symlink("/etc", dir+"/.msb"); err != nil {
			t.Fatal(err)
		}
		disk := ext4(t, dir)
		badRoot(t, sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{{Path: disk}}},
			"step block-root: mount /.msb (type bind) on /newroot/.msb: ", "a symbolic link stands in the way", "remove the link")
		clean(t, disk)
	})
	t.Run("no file system", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "zeros")
		text(t, path, strings.Repeat("\x00", 1<<20))
		badRoot(t, sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{{Path: path}}}, "step block-root: mount /dev/vda (type ext")
	})
}

// What is not there is said by its name, with what would help.
func TestMissing(t *testing.T) {
	tag := &wire.Bootstrap{DirMounts: []wire.DirMount{{Tag: "data_bd47413b", GuestPath: "/data", Flags: wire.MountFlags{ReadOnly: true}}}}
	serial := &wire.Bootstrap{DiskMounts: []wire.DiskMount{{ID: "cache", GuestPath: "/cache"}}}
	for _, kernel := range kernels(t) {
		for bootstrap, want := range map[*wire.Bootstrap]string{
			tag:    "step dir-mount: mount data_bd47413b (type virtiofs, ro) on /data: invalid argument (the host may give no share with this tag)",
			serial: `step disk-mount: mount of a disk on /cache: after 5s: no such disk: serial "cache", there are [] (the host has to attach it`,
		} {
			m, err := tryStart(t, hooks.With(sandbox.Config{Kernel: kernel}, hooks.Machine{Bootstrap: bootstrap}))
			if err == nil {
				stop(t, m)
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v\nwant %q", kernel, err, want)
			}
		}
	}
}

func badRoot(t *testing.T, cfg sandbox.Config, wants ...string) {
	t.Helper()
	hooks.Of(&cfg).Bootstrap = &wire.Bootstrap{BlockRoot: &wire.DiskImage{Device: "/dev/vda"}}
	m, err := tryStart(t, cfg)
	if err == nil {
		stop(t, m)
		t.Fatal("the machine boots")
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %q", err, want)
		}
	}
}

// allKernels returns the kernels of the user's cache for this host's processor.
func allKernels() ([]sandbox.Kernel, error) {
	c, err := sandbox.OpenCache("")
	if err != nil {
		return nil, err
	}
	all, err := c.Kernels()
	return slices.DeleteFunc(all, func(k sandbox.Kernel) bool { return k.Platform != "linux/"+runtime.GOARCH }), err
}
