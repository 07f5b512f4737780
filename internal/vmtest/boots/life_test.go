package boots

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

const (
	authority   = "-----BEGIN CERTIFICATE-----\nY2E=\n-----END CERTIFICATE-----\n"
	authorities = "-----BEGIN CERTIFICATE-----\nY2Fz\n-----END CERTIFICATE-----\n"
	known       = "-----BEGIN CERTIFICATE-----\nb2xk\n-----END CERTIFICATE-----" // Without a last newline.
	bundle      = "/etc/ssl/certs/ca-certificates.crt"
)

// runtime is a share with both files of authorities.
func runtime(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "tls/ca.pem"), authority)
	put(t, filepath.Join(dir, "tls/host-cas.pem"), authorities)
	return dir
}

// trusting is a root with a bundle and a profile whose last lines have no newline.
func trusting(t *testing.T) string {
	t.Helper()
	dir := vmtest.Root(t)
	put(t, filepath.Join(dir, bundle), known)
	put(t, filepath.Join(dir, "etc/profile"), "export LAST=line")
	return dir
}

// trusted checks the installed certificate authorities (boot sections 18 and 19).
func trusted(t *testing.T, m *vmtest.Machine) {
	t.Helper()
	expect(
		t, m,
		"cat "+bundle, known+"\n"+authority+authorities,
		"cd /usr/local/share/ca-certificates && cat *-ca.crt *-ca.pem *-host-cas.crt *-host-cas.pem", authority+authority+authorities+authorities,
		"cd /etc/pki/ca-trust/source/anchors && cat *-ca.crt *-ca.pem *-host-cas.crt *-host-cas.pem", authority+authority+authorities+authorities,
		`echo "$SSL_CERT_FILE $REQUESTS_CA_BUNDLE $CURL_CA_BUNDLE $NODE_EXTRA_CA_CERTS"`, bundle+" "+bundle+" "+bundle+" /.msb/tls/ca.pem\n",
		"head -n 2 /etc/profile; grep -c '>>> microsandbox scripts path >>>' /etc/profile", "export LAST=line\n# >>> microsandbox scripts path >>>\n1\n",
	)
}

// What a boot writes is the same after each boot of one root from the second on,
// in a directory and on the upper of layers; what the machine wrote is there. One
// kernel has the one and the other the other, both have both with AGENTD_LONG=1.
//
//holds:boot 10: files survive on a disk, and vanish from memory
//holds:boot 18: authorities in the bundle and four files each, four variables; a last line without a newline
//holds:boot 18, 19: a second boot leaves one copy, five boots the same bytes
func TestReboots(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		cfg := hooks.With(sandbox.Config{Kernel: kernel, Runtime: runtime(t)}, hooks.Machine{Bootstrap: &wire.Bootstrap{Hostname: new("box"), HostAlias: new("host.test")}})
		if roomy(kernel) || os.Getenv("AGENTD_LONG") == "1" {
			t.Run("layers", func(t *testing.T) { rebootLayers(t, cfg) })
		}
		if roomy(kernel) && os.Getenv("AGENTD_LONG") != "1" {
			return
		}
		t.Run("directory", func(t *testing.T) {
			cfg.Root = trusting(t)
			reboot(t, cfg, func() string {
				return tree(t, filepath.Join(cfg.Root, "etc")) + tree(t, filepath.Join(cfg.Root, "usr/local"))
			})
		})
	})
}

func rebootLayers(t *testing.T, cfg sandbox.Config) {
	t.Helper()
	lower, upper := sandbox.Disk{Path: vmtest.Disk(t, "erofs", trusting(t)), ReadOnly: true}, vmtest.Disk(t, "ext4", "")
	cfg.Disks = []sandbox.Disk{lower, {Path: upper}}
	message := *hooks.Of(&cfg).Bootstrap
	message.BlockRoot = &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}}
	hooks.Of(&cfg).Bootstrap = &message
	reboot(t, cfg, func() string {
		clean(t, upper)
		return listing(t, upper, "/upper/etc") + listing(t, upper, "/upper/usr")
	})
}

// reboot boots five times.
func reboot(t *testing.T, cfg sandbox.Config, look func() string) {
	t.Helper()
	const boots = 5
	var second string
	for boot := 1; boot <= boots; boot++ {
		m := vmtest.Start(t, cfg)
		if boot == 1 || boot == boots {
			trusted(t, m)
		}
		expect(t, m, "echo x >>/count; wc -l </count", string(rune('0'+boot))+"\n")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		switch now := look(); {
		case boot == 2:
			second = now
		case boot > 2 && now != second:
			t.Errorf("after boot %d:\n%s\nafter the second:\n%s", boot, now, second)
		}
	}
	if !strings.Contains(second, "hosts") || !strings.Contains(second, "microsandbox-host-cas.crt") {
		t.Errorf("that is not all:\n%s", second)
	}
}

// A host that no longer answers for a share does not keep the machine, and what is
// on disks is left clean all the same.
//
//holds:boot 26: the machine is gone within the window, beside processes that ignore SIGTERM, open files, fork bombs
func TestHungShare(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		data, disk := t.TempDir(), vmtest.Disk(t, "ext4", "")
		m := vmtest.Start(t, hooks.With(sandbox.Config{
			Kernel: kernel, Shares: []sandbox.Share{{Tag: "data", Dir: data}}, Disks: []sandbox.Disk{{Path: disk, Serial: "disk"}},
		}, hooks.Machine{Bootstrap: &wire.Bootstrap{DirMounts: []wire.DirMount{{Tag: "data", GuestPath: "/data"}}, DiskMounts: []wire.DiskMount{{ID: "disk", GuestPath: "/disk"}}}}))
		say(t, m, "echo kept >/disk/file; echo before >/data/file")
		pid := daemon(t, data)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // Whatever happens; it may be gone.
		for _, script := range []string{"echo after >/data/other", "ls /data/*", "exec dd if=/dev/zero of=/data/file bs=64k count=9"} {
			if err := m.Client().Command("sh", "-c", script).Start(); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Client().Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		// QEMU itself waits for the end of what its virtiofsd has begun.
		start := time.Now()
		for !strings.Contains(string(m.Console()), lastLine) {
			if time.Since(start) > window {
				t.Fatalf("after %v there is no %q", window, lastLine)
			}
			time.Sleep(poll)
		}
		t.Logf("left as it is after %v", time.Since(start).Round(time.Millisecond))
		time.Sleep(lastSync)
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if took := m.AwaitEnd(); took > window/2 {
			t.Errorf("ended %v later", took)
		}
		clean(t, disk)
		if got := listing(t, disk, "/file"); !strings.Contains(got, `"kept\n"`) {
			t.Errorf("the disk has %s", got)
		}
	})
}

const (
	// lastLine is the agent's message when it stops waiting.
	lastLine = "5s are over, ending the machine as it is"
	// lastSync is what it takes for the rest then: a second for the disks, and the
	// restart.
	lastSync = 1500 * time.Millisecond
	poll     = 20 * time.Millisecond
)

// daemon returns the process that serves a directory.
func daemon(t *testing.T, dir string) (pid int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		line, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(line), "virtiofsd") || !strings.Contains(string(line), dir) {
			continue // One that has ended, or another.
		}
		var id int
		for _, c := range strings.Split(name, "/")[2] {
			id = 10*id + int(c-'0')
		}
		pid = max(pid, id) // A wrapper comes before what it starts.
	}
	if pid == 0 {
		t.Fatalf("no virtiofsd serves %s", dir)
	}
	return pid
}

// window is what a host gives a machine to end (boot section 26).
const window = 8 * time.Second

// ended asks the machine to end and holds it to the window of hosts.
func ended(t *testing.T, m *vmtest.Machine) {
	t.Helper()
	if err := m.Client().Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	took := m.AwaitEnd()
	t.Logf("ended after %v", took.Round(time.Millisecond))
	if took > window && !m.Emulated() { // Emulated, the thousands of a fork bomb die slowly; AwaitEnd has a bound.
		t.Errorf("it took %v to end", took)
	}
}

// A disk is left clean by processes that hear no signal, hold files open and fork
// without end; what was written just before is there.
//
//holds:boot 26: the machine is gone within the window, beside processes that ignore SIGTERM, open files, fork bombs
//holds:boot 26: what was written just before is there
func TestStubbornOnDisk(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		lower, upper := sandbox.Disk{Path: vmtest.Disk(t, "erofs", vmtest.Root(t)), ReadOnly: true}, vmtest.Disk(t, "ext4", "")
		m := vmtest.Start(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{lower, {Path: upper}}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
			BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}},
		}}))
		m.Allow("Out of memory") // The kernel may end a fork bomb itself.
		const deaf = "trap '' TERM; exec 3>/open; while :; do echo more >&3; sleep 0.1; done"
		if err := m.Client().Command("sh", "-c", deaf).Start(); err != nil {
			t.Fatal(err)
		}
		held, err := m.Client().Create(t.Context(), "/held")
		if err == nil {
			_, err = held.Write([]byte("held\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		say(t, m, "while ! grep -q more /open; do :; done; echo last >/last")
		if err := m.Client().Command("sh", "-c", "bomb() { bomb | bomb & }; trap '' TERM; bomb").Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // It grows; there is nothing in it to wait for.
		ended(t, m)
		clean(t, upper)
		for name, want := range map[string]string{"last": "last\n", "held": "held\n"} {
			if got := tool(t, "debugfs", "-R", "cat /upper/"+name, upper); !strings.HasSuffix(got, want) {
				t.Errorf("/%s has %q", name, got)
			}
		}
	})
}

// Devices that come when the boot has begun already are waited for, and no longer
// than they take. A distribution's kernel loads its drivers in the boot; there
// nothing can come later than it does anyway.
func TestLateDevices(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		lower, upper := base(t)
		m := vmtest.Start(t, hooks.With(sandbox.Config{
			Kernel: kernel, Agent: vmtest.FaultyAgent(t), Disks: []sandbox.Disk{lower, upper}, Debug: []string{"boot"},
		}, hooks.Machine{Card: true, ExtraWords: []string{"AGENTD_LATE=virtio_blk,virtio_net"}, Bootstrap: hostileMessage(&wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}})}))
		expect(t, m, "cat /app/file; cat /sys/class/net/eth0/address", "image\n02:6d:73:00:2a:02\n")
		for _, step := range m.Steps() {
			if step.Name == "block-root" && !roomy(kernel) && step.Took < time.Second/2 {
				t.Errorf("the disks were there after %v: they were not late", step.Took)
			}
		}
	})
}

// What is written to a root with an upper in memory is gone with the machine, and an
// upper that is not of its type ends the boot.
//
//holds:boot 10: files survive on a disk, and vanish from memory
//holds:boot 10: the wrong type of file system ends the boot
func TestUppers(t *testing.T) {
	lower := sandbox.Disk{Path: vmtest.Disk(t, "erofs", appRoot(t)), ReadOnly: true}
	kernel := vmtest.Kernels(t)[0]
	cfg := hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{lower}}, hooks.Machine{Bootstrap: &wire.Bootstrap{BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperTmpfs{}}}})
	for range 2 {
		m := vmtest.Start(t, cfg)
		expect(t, m, "cat /app/file; ls /new 2>/dev/null || echo none; echo x >/new", "image\nnone\n")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for fstype, want := range map[string]string{
		"erofs": "init failed: step block-root: mount /dev/vdb (type erofs",
		"none":  "init failed: step block-root: mount /dev/vdb (type none) on /.msb/rootfs/upperfs: the kernel has no such file system",
	} {
		disk := sandbox.Disk{Path: vmtest.Disk(t, "ext4", "")}
		failed := refused(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{lower, disk}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
			BlockRoot: &wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: fstype}},
		}}))
		if !strings.HasPrefix(failed.Reason, want) {
			t.Errorf("%s: %q, want %q", fstype, failed.Reason, want)
		}
		clean(t, disk.Path)
	}
}
