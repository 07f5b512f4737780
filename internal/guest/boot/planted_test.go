package boot_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// A place is a name of the image's that a step mounts on or writes to.
type place struct {
	name string
	step plan.Step
	// written says that whatever is there is replaced by our file, unless it is a
	// directory.
	written bool
}

// places are all of them.
func places() (all []place) {
	for _, target := range []string{"/dev", "/proc", "/sys", "/fs", "/fs/deep/er"} {
		all = append(all, place{name: target, step: plan.Mounts{List: []plan.Mount{memory(target)}}})
	}
	all = append(
		all,
		place{name: plan.ShareDir, step: plan.Share{Mount: memory(plan.ShareDir)}},
		place{name: "/data", step: plan.DirMount{Mount: memory("/data")}},
		place{name: "/cache", step: plan.TmpfsMount{Mount: memory("/cache")}},
		place{name: "/etc/hosts", step: plan.HostsFile{Content: "new\n"}, written: true},
		place{name: "/etc/hostname", step: plan.Hostname{Host: "box"}, written: true},
		place{name: "/etc/resolv.conf", step: plan.Resolver{Content: "new\n"}, written: true},
		place{name: "/etc/profile", step: plan.ProfileBlock{}},
		place{name: "/tmp", step: plan.TempDirs{Paths: []string{"/tmp"}}},
		place{name: "/var/tmp", step: plan.TempDirs{Paths: []string{"/var/tmp"}}},
		place{name: "/run", step: plan.RunDirs{Paths: []string{"/run", "/run/microsandbox"}}},
		place{name: "/run/microsandbox", step: plan.RunDirs{Paths: []string{"/run", "/run/microsandbox"}}},
		place{name: "/usr/local/share/ca-certificates", step: plan.Trust{}},
		place{name: "/etc/pki/ca-trust/source/anchors/microsandbox-ca.pem", step: plan.Trust{}, written: true},
	)
	for _, bundle := range []string{deb, rpm, alpine} {
		all = append(all, place{name: bundle, step: plan.Trust{}})
	}
	return all
}

// plantings are what an image may have at a place, by what it is.
func plantings() map[string]func(name string) func(*testing.T) {
	return map[string]func(name string) func(*testing.T){
		"link to a directory": func(n string) func(*testing.T) { return linked(outside+"/dir", n) },
		"link to a file":      func(n string) func(*testing.T) { return linked(outside+"/file", n) },
		"link by dots":        func(n string) func(*testing.T) { return linked("../../../../.."+outside+"/dir", n) },
		"dangling link":       func(n string) func(*testing.T) { return linked(outside+"/new", n) },
		"link to itself":      func(n string) func(*testing.T) { return linked(path.Base(n), n) },
		"link to the share":   func(n string) func(*testing.T) { return linked(plan.ShareDir+"/scripts", n) },
		"magic link":          func(n string) func(*testing.T) { return linked("/proc/1/root"+outside+"/dir", n) },
		"fifo":                fifo,
		"socket":              socket,
		"device":              device,
		"file":                file,
		"directory":           directory,
	}
}

// device is one that refuses what is written to it.
func device(name string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		mkdir(t, path.Dir(name))
		const full = 1<<8 | 7 // Numbers of /dev/full.
		if err := errors.Join(os.RemoveAll(name), syscall.Mknod(name, syscall.S_IFCHR|0o666, full)); err != nil {
			t.Fatal(err)
		}
	}
}

// Every name that the boot mounts on or writes to is, in its turn, everything that
// it may be. Nothing outside changes, and the boot goes on or names the place.
func TestPlanted(t *testing.T) {
	nstest.Run(t, func() {
		nstest.RequireUsers(t) // A user namespace makes no devices.
		nstest.Root(t)
		cases := 0
		for _, p := range places() {
			for what, plant := range plantings() {
				cases++
				t.Run(p.name+" is a "+what, func(t *testing.T) { p.check(t, what, plant(p.name)) })
			}
		}
		t.Logf("%d images", cases)
	})
}

func (p place) check(t *testing.T, what string, plant func(*testing.T)) {
	t.Helper()
	stage(t, p.name != "/proc")
	write(t, outside+"/file", "outside\n")
	mkdir(t, outside+"/dir")
	write(t, plan.ShareDir+"/scripts/run", "script\n")
	write(t, plan.ShareDir+"/tls/ca.pem", ca)
	mkdir(t, path.Dir(p.name))
	if err := os.RemoveAll(p.name); err != nil {
		t.Fatal(err)
	}
	plant(t)
	before := snapshot(t)
	_, err := up(t, only(p.step))
	if after := snapshot(t); after != before {
		t.Errorf("outside was\n%sand is\n%s", before, after)
	}
	if p.name != plan.ShareDir {
		if entries, err := os.ReadDir(plan.ShareDir + "/scripts"); err != nil || len(entries) != 1 {
			t.Errorf("the share's scripts are %v, %v", entries, err)
		}
	}
	step, ok := errors.AsType[*boot.StepError](err)
	switch st, e := os.Lstat(p.name); {
	case err != nil && (!ok || step.Step.Name() != p.step.Name() || !strings.Contains(err.Error(), p.name)):
		t.Errorf("the error does not name the step and %s: %v", p.name, err)
	case p.written && what != "directory" && (err != nil || e != nil || !st.Mode().IsRegular()):
		t.Errorf("it was not replaced: %v; %v, %v", err, st, e)
	}
}

// stage makes an empty root in memory the root of this process for one test.
func stage(t *testing.T, proc bool) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Open("/")
	must(err)
	const at = "/stage"
	mkdir(t, at)
	must(syscall.Mount("stage", at, "tmpfs", 0, "mode=755"))
	must(syscall.Chroot(at))
	t.Chdir("/")
	t.Cleanup(func() {
		must(syscall.Fchdir(int(old.Fd())))
		must(syscall.Chroot("."))
		must(syscall.Unmount(at, syscall.MNT_DETACH))
		must(old.Close())
	})
	for _, dir := range []string{"/etc", "/tmp", "/var/tmp", "/run", "/usr"} {
		mkdir(t, dir)
	}
	if proc {
		mkdir(t, "/proc")
		must(syscall.Mount("proc", "/proc", "proc", 0, ""))
	}
}

// Names are bytes: what a table of mounts has to escape, what a shell would take
// apart, and what is no text.
func TestOddNames(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		names := []string{"/a b", "/a\tb", "/new\nline", `/say "it"`, "/it's", `/back\slash`, "/$(reboot)", "/*", "/-rf", "/\x01", "/\xff\xfe", "/é", "/" + strings.Repeat("n", 255)}
		b := &wire.Bootstrap{}
		for _, name := range names {
			b.TmpfsMounts = append(b.TmpfsMounts, wire.TmpfsMount{Path: name}, wire.TmpfsMount{Path: name + "/below"})
		}
		p, err := plan.FromBootstrap(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool { return s.Name() != "tmpfs-mount" })
		before := len(mounts(t))
		m := mustUp(t, p)
		for _, name := range names {
			var st syscall.Statfs_t
			if err := syscall.Statfs(name+"/below", &st); err != nil || st.Files == 0 {
				t.Errorf("%q: %v", name, err)
			}
		}
		if got := len(mounts(t)) - before; got != 2*len(names) {
			t.Errorf("%d mounts, want %d", got, 2*len(names))
		}
		m.Down(10 * time.Second)
		if got := len(mounts(t)); got != before {
			t.Errorf("%d mounts after, want %d", got, before)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT, ""); err != nil { // For the test's own end.
			t.Fatal(err)
		}
	})
}

// As many mounts as a machine may have boot, and go; more are refused by their
// place in the list, before the first.
func TestManyMounts(t *testing.T) {
	const most, many = 4096, 10000
	list := func(n int) (b *wire.Bootstrap) {
		b = &wire.Bootstrap{}
		for i := range n {
			b.TmpfsMounts = append(b.TmpfsMounts, wire.TmpfsMount{Path: fmt.Sprintf("/fs/%d", i)})
		}
		return b
	}
	_, err := plan.FromBootstrap(list(many), nil)
	const want = `tmpfs_mounts[4096].path: "/fs/4096": machine must not have more than 4096 mounts`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	nstest.Run(t, func() {
		nstest.Root(t)
		p, err := plan.FromBootstrap(list(most), nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool { return s.Name() != "tmpfs-mount" })
		before := len(mounts(t))
		start := time.Now()
		m := mustUp(t, p)
		t.Logf("%d mounts took %v", most, time.Since(start))
		if got := len(mounts(t)) - before; got != most {
			t.Errorf("%d mounts, want %d", got, most)
		}
		m.Down(20 * time.Second)
		if got := len(mounts(t)); got != before {
			t.Errorf("%d mounts after, want %d", got, before)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT, ""); err != nil { // For the test's own end.
			t.Fatal(err)
		}
	})
}
