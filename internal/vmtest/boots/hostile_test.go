package boots

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// outside is the target of the links of hostile images.
const outside = "/outside"

// hostileRoot is a root with something outside, and what plant does to it.
func hostileRoot(t *testing.T, plant func(dir string) error) string {
	t.Helper()
	dir := vmtest.Root(t)
	put(t, filepath.Join(dir, outside, "file"), "outside\n")
	put(t, filepath.Join(dir, outside, "dir", "file"), "outside\n")
	if err := plant(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// planted puts links (name to target) in the place of whatever is there, and with
// an empty target a fifo.
func planted(links map[string]string) func(dir string) error {
	return func(dir string) error {
		for name, target := range links {
			at := filepath.Join(dir, name)
			if err := os.RemoveAll(at); err != nil {
				return err
			}
			err := os.MkdirAll(filepath.Dir(at), 0o755)
			switch {
			case err != nil:
			case target == "":
				err = syscall.Mkfifo(at, 0o666)
			default:
				err = os.Symlink(target, at)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// listing lists a directory of an ext4 disk, with what is in its files.
func listing(t *testing.T, disk, dir string) string {
	t.Helper()
	to := t.TempDir()
	tool(t, "debugfs", "-R", "rdump "+dir+" "+to, disk)
	return tree(t, to)
}

// tree lists a directory of the host, with what is in its files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path) // Below dir, by construction.
		fmt.Fprintf(&b, "%s %v", name, e.Type())
		if e.Type().IsRegular() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %q", content)
			if err != nil {
				return err
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Images that turn a step aside end the boot with the place named, and nothing of
// theirs is changed at the place that they point to.
func TestHostileImages(t *testing.T) {
	kernel := vmtest.Kernels(t)[0]
	for _, tt := range []struct {
		name  string
		links map[string]string
		want  string
	}{
		{"share", map[string]string{"/.msb": outside}, "step block-root: mount /.msb (type bind) on /newroot/.msb: mkdir /newroot/.msb: .msb: a symbolic link stands in the way"},
		{"share is a fifo", map[string]string{"/.msb": ""}, "step block-root: mount /.msb (type bind) on /newroot/.msb: mkdir /newroot/.msb: .msb: not a directory"},
		{"devices", map[string]string{"/dev": outside}, "step block-root: mount /dev (type bind) on /newroot/dev: mkdir /newroot/dev: dev: a symbolic link"},
		{"processes", map[string]string{"/proc": outside + "/dir"}, "step block-root: mount /proc (type bind, noexec,nosuid,nodev) on /newroot/proc: mkdir /newroot/proc: proc: a symbolic link"},
		{"kernel", map[string]string{"/sys": "/sys"}, "step block-root: mount /sys (type bind, noexec,nosuid,nodev) on /newroot/sys: mkdir /newroot/sys: sys: a symbolic link"},
		{"user mount", map[string]string{"/data": outside + "/dir", "/etc": "/.msb"}, "step tmpfs-mount: mount tmpfs (type tmpfs) on /data: mkdir /data: data: a symbolic link stands in the way"},
		{"way to a user mount", map[string]string{"/srv": outside, "/etc": outside}, "step tmpfs-mount: mount tmpfs (type tmpfs) on /srv/dir: mkdir /srv/dir: srv: a symbolic link stands in the way"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disk := vmtest.Disk(t, "ext4", hostileRoot(t, planted(tt.links)))
			before := listing(t, disk, outside)
			failed := refused(t, hooks.With(sandbox.Config{Kernel: kernel, Disks: []sandbox.Disk{{Path: disk}}}, hooks.Machine{Bootstrap: &wire.Bootstrap{
				BlockRoot:   &wire.DiskImage{Device: "/dev/vda"},
				TmpfsMounts: []wire.TmpfsMount{{Path: "/data"}, {Path: "/srv/dir"}},
			}}))
			if !strings.HasPrefix(failed.Reason, "init failed: "+tt.want) || failed.Failure != "unknown" {
				t.Errorf("reason %q (%q), want %q", failed.Reason, failed.Failure, tt.want)
			}
			clean(t, disk)
			if after := listing(t, disk, outside); after != before {
				t.Errorf("outside was\n%sand is\n%s", before, after)
			}
		})
	}
}

// hostileFiles returns links and fifos at every path that the boot writes or reads.
var hostileFiles = map[string]string{
	"/etc/hosts": outside + "/file", "/etc/.hosts.agentd": outside + "/file", "/etc/hostname": "",
	"/etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf", "/etc/profile": "profile", "/etc/passwd": "", "/etc/group": "group",
	"/tmp": outside + "/dir", "/var/tmp": outside + "/missing", "/run/microsandbox": outside + "/dir",
}

// hostileMessage asks for every file.
func hostileMessage(root wire.BlockRoot) *wire.Bootstrap {
	return &wire.Bootstrap{BlockRoot: root, Hostname: new("box"), Network: &wire.Network{
		Interface: "eth0", MAC: [6]byte{2, 109, 115, 0, 42, 2}, MTU: 1500,
		IPv4: &wire.IPv4{Address: [4]byte{10, 0, 0, 2}, PrefixLen: 24, Gateway: [4]byte{10, 0, 0, 1}, DNS: &[4]byte{10, 0, 0, 1}},
	}}
}

// Images whose files are links and fifos boot, as a disk, as the lower of layers
// and as a directory; what is there is replaced and not followed.
func TestHostileFiles(t *testing.T) {
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		dir := hostileRoot(t, planted(hostileFiles))
		disk, upper := vmtest.Disk(t, "ext4", dir), vmtest.Disk(t, "ext4", "")
		before := tree(t, dir+outside)
		look := func(t *testing.T, cfg sandbox.Config) {
			t.Helper()
			cfg.Kernel, hooks.Of(&cfg).Card = kernel, true
			m := vmtest.Start(t, cfg)
			expect(
				t, m,
				"cat /etc/hostname /etc/resolv.conf; head -n 1 /etc/hosts", "box\nnameserver 10.0.0.1\n127.0.0.1\tlocalhost box\n",
				"for f in hosts hostname resolv.conf; do test -L /etc/$f || stat -c %F /etc/$f; done", "regular file\nregular file\nregular file\n",
				"cat /outside/file; cat /outside/dir/file | tr a-z A-Z; ls /outside /outside/dir", "outside\nOUTSIDE\n/outside:\ndir\nfile\n\n/outside/dir:\nfile\n",
				"ls -d /run/systemd 2>/dev/null || echo none", "none\n",
				"stat -c %a /outside/dir", "755\n",
			)
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		t.Run("disk", func(t *testing.T) {
			look(t, hooks.With(sandbox.Config{Disks: []sandbox.Disk{{Path: disk}}}, hooks.Machine{Bootstrap: hostileMessage(&wire.DiskImage{Device: "/dev/vda"})}))
			clean(t, disk)
		})
		t.Run("layers", func(t *testing.T) {
			lower := sandbox.Disk{Path: vmtest.Disk(t, "erofs", dir), ReadOnly: true}
			look(t, hooks.With(sandbox.Config{Disks: []sandbox.Disk{lower, {Path: upper}}}, hooks.Machine{Bootstrap: hostileMessage(
				&wire.OCIErofs{Lower: "/dev/vda", Upper: &wire.UpperDevice{Device: "/dev/vdb", FSType: "ext4"}},
			)}))
			clean(t, upper)
			if got := listing(t, upper, "/upper"); strings.Contains(got, "outside") {
				t.Errorf("the upper has\n%s", got)
			}
		})
		t.Run("directory", func(t *testing.T) {
			look(t, hooks.With(sandbox.Config{Root: dir}, hooks.Machine{Bootstrap: hostileMessage(nil)}))
			if after := tree(t, dir+outside); after != before {
				t.Errorf("outside was\n%sand is\n%s", before, after)
			}
		})
	})
}
