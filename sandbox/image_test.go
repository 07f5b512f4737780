package sandbox_test

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/internal/image"
	"github.com/agentd-go/agentd/internal/imagetest"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

// scanner is the program that lists a tree, built for the guest.
func scanner(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scan")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/agentd-go/agentd/internal/imagetest/scan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// pack makes an archive of dir with everything that tar can keep.
func pack(t *testing.T, dir string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tar")
	tool(t, "tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", dir, "-cf", path, ".")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oddities is a layer with kinds of files that a Debian root lacks.
func oddities(t *testing.T) []byte {
	t.Helper()
	then := imagetest.Then.Add(123456789)
	h := func(name string, kind byte, mode int64) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Uid: 1 << 20, Gid: 70_000, ModTime: then, Format: tar.FormatPAX}
	}
	content := map[string]string{"odd/sparse": "begin" + strings.Repeat("\x00", 3<<20) + "end", "odd/small": "small", "odd/edge": strings.Repeat("e", 4096)}
	var all []*tar.Header
	all = append(all, h("./", tar.TypeDir, 0o755), h("odd/", tar.TypeDir, 0o1777))
	for _, name := range []string{"odd/sparse", "odd/small", "odd/edge", "odd/empty"} {
		f := h(name, tar.TypeReg, 0o6755)
		f.Size = int64(len(content[name]))
		f.PAXRecords = map[string]string{
			"SCHILY.xattr.user.same": "everywhere", "SCHILY.xattr.user.own": name, "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"SCHILY.xattr.trusted.large": strings.Repeat("large", 700),
		}
		all = append(all, f)
	}
	for _, name := range []string{"odd/hard", "odd/harder"} {
		l := h(name, tar.TypeLink, 0)
		l.Linkname = "odd/small"
		all = append(all, l)
	}
	null, disk := h("odd/null", tar.TypeChar, 0o666), h("odd/disk", tar.TypeBlock, 0o660)
	null.Devmajor, null.Devminor, disk.Devmajor, disk.Devminor = 1, 3, 259, 1025
	long := h("odd/long", tar.TypeSymlink, 0o777)
	long.Linkname = strings.Repeat("long/", 800)
	all = append(all, null, disk, long, h("odd/fifo", tar.TypeFifo, 0o600), h("odd/many/", tar.TypeDir, 0o755))
	for i := range 700 {
		all = append(all, h("odd/many/"+strings.Repeat("n", i%200)+"."+string(rune('a'+i%26))+strings.Repeat("m", i/200), tar.TypeDir, 0o700))
	}
	slices.SortFunc(all[len(all)-700:], func(a, b *tar.Header) int { return strings.Compare(a.Name, b.Name) })
	all = slices.CompactFunc(all, func(a, b *tar.Header) bool { return a.Name == b.Name })
	return imagetest.Tar(t, all, content)
}

// extract unpacks layers with tar, and removes what is hidden, which leaves the
// times of directories as they were.
func extract(t *testing.T, hidden []string, layers ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, layer := range layers {
		path := filepath.Join(t.TempDir(), "layer")
		if err := os.WriteFile(path, layer, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-C", dir, "-xpf", path)
	}
	for _, name := range hidden {
		path := filepath.Join(dir, name)
		info, err := os.Stat(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(path), os.Chtimes(filepath.Dir(path), info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// An image with a Debian root and a layer of oddities is for a machine what tar
// makes of them: owner, mode, time, links, attributes, devices and content. The
// whole of it takes half a minute on one of the kernels, and is left to long runs
// there.
func TestImageIsWhatTarMakes(t *testing.T) {
	names, dir, scan := kernels(t), vmtest.Debian(t), scanner(t)
	hidden := []string{"usr/share/doc", "etc/motd"}
	base, odd := pack(t, dir), oddities(t)
	small := newComparison(t, scan, nil, odd)
	large := newComparison(t, scan, hidden, base, odd)
	for _, kernel := range names {
		t.Run(kernel+"/oddities", func(t *testing.T) { small.run(t, kernel) })
		if k, err := stock(kernel); err != nil || k || os.Getenv("AGENTD_LONG") == "1" {
			t.Run(kernel+"/debian", func(t *testing.T) { large.run(t, kernel) })
		}
	}
}

// stock tells whether a kernel is a distribution's.
func stock(name string) (bool, error) {
	all, err := allKernels()
	i := slices.IndexFunc(all, func(k sandbox.Kernel) bool { return k.Name == name })
	return i >= 0 && all[i].Modules, err
}

// A comparison is an image, and the lines that a scan of it must give.
type comparison struct {
	scan, disk string
	want       []string
}

// TestImageIsMadeFasterThanByMkfs imports a Debian root and has mkfs.erofs make an
// image of the same, in turns, and compares the best of each. Ours also takes the
// archive apart, checks its digest and waits for the disk.
func TestImageIsMadeFasterThanByMkfs(t *testing.T) {
	dir := vmtest.Debian(t)
	if os.Getenv("AGENTD_LONG") != "1" {
		t.Skip("says something on a quiet host and of a large root: AGENTD_LONG=1, AGENTD_DEBIAN=DIR")
	}
	archive := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(archive, imagetest.Image{Layers: [][]byte{pack(t, dir)}}.Docker(t), 0o600); err != nil {
		t.Fatal(err)
	}
	ours, theirs := time.Hour, time.Hour
	var size int64
	for range 3 {
		cache, err := image.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		i, err := cache.ImportImage(t.Context(), archive, "test")
		if err != nil {
			t.Fatal(err)
		}
		ours, size = min(ours, time.Since(start)), i.Size
		start = time.Now()
		tool(t, "mkfs.erofs", "--quiet", filepath.Join(t.TempDir(), "disk"), dir)
		theirs = min(theirs, time.Since(start))
	}
	t.Logf("%d MiB: imported in %v; mkfs.erofs: %v", size>>20, ours, theirs)
	if ours > theirs {
		t.Error("mkfs.erofs is faster")
	}
}

// newComparison imports layers and, on top, a layer that hides files of the first.
func newComparison(t *testing.T, scan string, hidden []string, layers ...[]byte) comparison {
	t.Helper()
	var whiteouts []string
	for _, name := range hidden {
		whiteouts = append(whiteouts, filepath.Dir(name)+"/.wh."+filepath.Base(name), "")
	}
	img := imagetest.Image{Layers: append(slices.Clone(layers), imagetest.Files(t, whiteouts...))}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, img.Docker(t), 0o600); err != nil {
		t.Fatal(err)
	}
	cache, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	i, err := cache.ImportImage(t.Context(), archive, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("imported %d MiB in %v", i.Size>>20, time.Since(start))
	return comparison{scan, i.Path, lines(tool(t, scan, extract(t, hidden, layers...)))}
}

func (c comparison) run(t *testing.T, kernel string) {
	t.Helper()
	m := withDisk(t, kernel, c.disk, filepath.Dir(c.scan))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // Of a large root, in emulation.
	defer cancel()
	out, err := m.Client().CommandContext(ctx, "/scan/scan", "/image").Output()
	if err != nil {
		t.Fatal(err)
	}
	compare(t, lines(string(out)), c.want)
}

// withDisk starts a machine that has an image's disk at /image, as it is.
func withDisk(t *testing.T, kernel, disk, programs string) *sandbox.Machine {
	t.Helper()
	return start(t, hooks.With(sandbox.Config{
		Kernel: kernel, Disks: []sandbox.Disk{{Path: disk, ReadOnly: true, Serial: "image"}}, Shares: []sandbox.Share{{Tag: "scan", Dir: programs}},
	}, hooks.Machine{Bootstrap: &wire.Bootstrap{
		DiskMounts: []wire.DiskMount{{ID: "image", GuestPath: "/image", Flags: wire.MountFlags{ReadOnly: true}}},
		DirMounts:  []wire.DirMount{{Tag: "scan", GuestPath: "/scan"}},
	}}))
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }

func compare(t *testing.T, got, want []string) {
	t.Helper()
	t.Logf("%d files", len(got))
	const most = 10
	for i, n := 0, 0; i < max(len(got), len(want)) && n < most; i++ {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("got  %s\nwant %s", g, w)
			n++
		}
	}
}

// use imports an image for the time of the test, and returns its ID.
func use(t *testing.T, source string) string {
	t.Helper()
	c, err := sandbox.OpenCache("")
	if err != nil {
		t.Fatal(err)
	}
	i, err := c.UseImage(t.Context(), source, sandbox.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.RemoveImage(i.ID); err != nil {
			t.Error(err)
		}
	})
	return i.ID
}

// smallImage is an archive with busybox and a configuration.
func smallImage(t *testing.T) string {
	t.Helper()
	root := busyboxRoot(t)
	text(t, root+"/etc/passwd", "root:x:0:0::/root:/bin/sh\nbuilder:x:7:8::/srv:/bin/sh\n")
	text(t, root+"/etc/group", "root:x:0:\nbuilders:x:8:\n")
	text(t, root+"/srv/keep", "")
	img := imagetest.Image{Layers: [][]byte{pack(t, root)}, Config: map[string]any{
		"User": "builder", "Env": []string{"FROM=image", "BOTH=image"}, "WorkingDir": "/srv/not/there", "Cmd": []string{"id"},
	}}
	path := filepath.Join(t.TempDir(), "small.tar")
	if err := os.WriteFile(path, img.Docker(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Machines from an image: the image's settings are the defaults, and writes go to the
// chosen upper.
func TestImageMachine(t *testing.T) {
	id := use(t, smallImage(t))
	for _, kernel := range kernels(t) {
		t.Run(kernel+"/kept", func(t *testing.T) {
			upper := filepath.Join(t.TempDir(), "upper")
			cfg := sandbox.Config{Kernel: kernel, Image: id, Env: []string{"BOTH=config"}, Upper: sandbox.Upper{Disk: upper, SizeMiB: 64}}
			m := start(t, cfg)
			if got := say(t, m, "id -un; id -gn; pwd; echo $FROM $BOTH; cat /from"); got != "builder\nbuilders\n/srv/not/there\nimage config\nimage\n" {
				t.Errorf("got %q", got)
			}
			asRoot(t, m, "echo new >/new; rm /from; df -m / | tail -n 1 | awk '{exit $2 > 64}'")
			stop(t, m)
			clean(t, upper)
			m = start(t, cfg)
			if got := say(t, m, "cat /new; ls /from 2>/dev/null || echo gone"); got != "new\ngone\n" {
				t.Errorf("after a restart: %q", got)
			}
			// Another machine has the image as it was.
			other := start(t, sandbox.Config{Kernel: kernel, Image: id, User: "root"})
			if got := say(t, other, "cat /from; ls /new 2>/dev/null || echo none; id -u"); got != "image\nnone\n0\n" {
				t.Errorf("beside it: %q", got)
			}
		})
		t.Run(kernel+"/tmpfs", func(t *testing.T) {
			m := start(t, sandbox.Config{Kernel: kernel, Image: id, Upper: sandbox.Upper{Tmpfs: true, SizeMiB: 16}})
			asRoot(t, m, "echo new >/new; grep -q ' / overlay rw' /proc/mounts")
		})
		t.Run(kernel+"/environment", func(t *testing.T) {
			m := start(t, sandbox.Config{Kernel: kernel, Image: id, Configuration: sandbox.ByEnvironment})
			if got := say(t, m, "id -un; cat /from"); got != "builder\nimage\n" {
				t.Errorf("got %q", got)
			}
			asRoot(t, m, "echo new >/new; cat /new")
		})
	}
}

// A read-only root over an image, for each kind of root: no command can write to it,
// and the boot's files are there.
//
//holds:boot 2: a sealed root: nobody writes, the boot's files are there, over layers and disks
func TestReadOnlyImage(t *testing.T) {
	names := kernels(t)
	layers := sandbox.Config{Image: use(t, smallImage(t)), User: "root", Hostname: "sealed", Dir: "/"} // The image's own cannot be made here.
	disk := sandbox.Config{Image: use(t, ext4(t, busyboxRoot(t))), Hostname: "sealed"}
	environment := layers
	environment.Configuration = sandbox.ByEnvironment
	environment.Dir = ""
	for i, cfg := range []sandbox.Config{layers, disk, environment} {
		cfg.Kernel, cfg.ReadOnlyRoot = names[i%len(names)], true
		if cfg.Configuration == sandbox.ByBootstrap {
			cfg.Tmpfs = []sandbox.Tmpfs{{Target: "/scratch"}}
		}
		m := start(t, cfg)
		got := say(t, m, "for f in /new /tmp/new /etc/hosts; do echo x >$f; done 2>&1 | grep -c 'Read-only file system'; cat /from /etc/hostname")
		if got != "3\nimage\nsealed\n" {
			t.Errorf("%d on %s: got %q", i, cfg.Kernel, got)
		}
		if len(cfg.Tmpfs) > 0 {
			asRoot(t, m, "echo x >/scratch/x")
		}
		stop(t, m)
	}
}

func asRoot(t *testing.T, m *sandbox.Machine, script string) {
	t.Helper()
	c := m.Client().Command("sh", "-ec", script)
	c.User = "root"
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
}

// A disk image is copied, also when it stays.
func TestDiskImageMachine(t *testing.T) {
	disk := ext4(t, busyboxRoot(t))
	before, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	id := use(t, disk)
	for i, kernel := range kernels(t) {
		kept := filepath.Join(t.TempDir(), "kept")
		cfg := sandbox.Config{Kernel: kernel, Image: id, Upper: sandbox.Upper{Disk: kept}, Configuration: sandbox.Configuration(i % 2)}
		m := start(t, cfg)
		if got := say(t, m, "cat /from; echo new >/new; head -n 1 /proc/mounts | cut -d' ' -f1-3"); got != "image\n/dev/vda / ext4\n" {
			t.Errorf("%s: got %q", kernel, got)
		}
		stop(t, m)
		clean(t, kept)
		m = start(t, cfg)
		if got := say(t, m, "cat /new"); got != "new\n" {
			t.Errorf("%s: after a restart: %q", kernel, got)
		}
	}
	if after, err := os.ReadFile(disk); err != nil || string(after) != string(before) {
		t.Errorf("the image itself has changed (%v)", err)
	}
}

func TestImageRefused(t *testing.T) {
	agent, err := agentFile()
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "upper")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want string
		cfg  sandbox.Config
	}{
		{"want one of them", sandbox.Config{Image: "x", Root: "/"}},
		{"an upper without an image", sandbox.Config{Upper: sandbox.Upper{SizeMiB: 1}}},
		{"want one of them", sandbox.Config{Image: "x", Upper: sandbox.Upper{Tmpfs: true, Disk: "x"}}},
		{"cannot be configured by environment", sandbox.Config{Image: "x", Upper: sandbox.Upper{Tmpfs: true}, Configuration: sandbox.ByEnvironment}},
		{"upper of -1 MiB", sandbox.Config{Image: "x", Upper: sandbox.Upper{SizeMiB: -1}}},
		{"it is there with 0 bytes, and 64 MiB are 67108864", sandbox.Config{Image: "x", Upper: sandbox.Upper{Disk: empty, SizeMiB: 64}}},
		{"only our own agent can", hooks.With(sandbox.Config{Image: "x", ReadOnlyRoot: true}, hooks.Machine{Foreign: true})},
		{"./nothing: no such file", sandbox.Config{Image: "./nothing"}},
	} {
		tt.cfg.Agent = agent
		m, err := sandbox.Start(t.Context(), tt.cfg)
		if err == nil {
			stop(t, m)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
