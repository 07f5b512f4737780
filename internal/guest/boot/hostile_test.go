package boot_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// outside is what no step may change: a place of the root that links lead to.
const outside = "/outside"

// snapshot is everything outside, with contents and modes, and what is mounted there.
func snapshot(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(outside, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all.WriteString(path + " " + info.Mode().String() + "\n")
		if info.Mode().IsRegular() {
			all.WriteString(read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

type hostile struct {
	name  string
	plant func(t *testing.T)
	step  plan.Step
	check func(t *testing.T, err error)
}

// hostileRoots are the plantings, each with the step that meets it.
func hostileRoots() []hostile {
	hosts := plan.HostsFile{Content: "new\n"}
	temp := plan.TempDirs{Paths: []string{"/tmp", "/var/tmp"}}
	run := plan.RunDirs{Paths: []string{"/run", "/run/microsandbox"}}
	tmpfs := func(target string) plan.Step { return plan.Mounts{List: []plan.Mount{memory(target)}} }
	dir := func(target string) plan.Step { return plan.DirMount{Mount: memory(target)} }
	return []hostile{
		{"hosts is a link", linked(outside+"/file", "/etc/hosts"), hosts, replaced},
		{"hosts is a dangling link", linked(outside+"/new", "/etc/hosts"), hosts, replaced},
		{"hosts is a link to itself", linked("hosts", "/etc/hosts"), hosts, replaced},
		{"hosts is a fifo", fifo("/etc/hosts"), hosts, replaced},
		{"hosts is a socket", socket("/etc/hosts"), hosts, replaced},
		{"hosts is a directory", directory("/etc/hosts"), hosts, refused},
		{"the temporary name is a link", linked(outside+"/file", "/etc/.hosts.agentd"), hosts, replaced},
		{"etc is a link", linked(outside, "/etc"), hosts, booted},
		{"etc is a link, for the name", linked(outside, "/etc"), plan.Hostname{Host: "box"}, booted},
		{"etc is a link, for the resolver", linked(outside, "/etc"), plan.Resolver{Content: "new\n"}, booted},
		{"etc is a link, for the profile", linked(outside, "/etc"), plan.ProfileBlock{}, booted},
		{"etc is a link, for authorities", linked(outside, "/etc"), plan.Trust{}, booted},
		{"etc is a dangling link", linked(outside+"/new", "/etc"), hosts, booted},
		{"etc is a fifo", fifo("/etc"), hosts, refused},
		{"profile is a fifo", fifo("/etc/profile"), plan.ProfileBlock{}, booted},
		{"profile is a socket", socket("/etc/profile"), plan.ProfileBlock{}, booted},
		{"profile is a link", linked(outside+"/file", "/etc/profile"), plan.ProfileBlock{}, booted},
		{"tmp is a link", linked(outside+"/dir", "/tmp"), temp, booted},
		{"var is a link", linked(outside, "/var"), temp, booted},
		{"tmp is a dangling link", linked(outside+"/new", "/tmp"), temp, booted},
		{"var/tmp is a link to tmp", linked("/tmp", "/var/tmp"), temp, booted},
		{"run is a link", linked(outside+"/dir", "/run"), run, booted},
		{"a mount's place is a link", linked(outside+"/dir", "/fs"), tmpfs("/fs"), refused},
		{"a mount's parent is a link", linked(outside, "/fs"), tmpfs("/fs/dir"), refused},
		{"a mount's place is a dangling link", linked(outside+"/new", "/fs"), tmpfs("/fs"), refused},
		{"a mount's place is a fifo", fifo("/fs"), tmpfs("/fs"), refused},
		{"a directory mount's place is a link", linked(outside+"/dir", "/fs"), dir("/fs"), refused},
		{"a directory mount's place is a link to itself", linked("fs", "/fs"), dir("/fs"), refused},
		{"a directory mount's place is a file", file("/fs"), dir("/fs"), refused},
		{"a directory mount's parent is a link", linked(outside, "/fs"), dir("/fs/dir"), refused},
		{"a tmpfs mount's place is a fifo", fifo("/fs"), plan.TmpfsMount{Mount: memory("/fs")}, refused},
		{"a tmpfs mount's place is a socket", socket("/fs"), plan.TmpfsMount{Mount: memory("/fs")}, refused},
		{"the staging is a link", linked(outside+"/dir", plan.FileMountsDir), plan.FileMount{Tag: "t", Filename: "f", Path: "/f"}, refused},
		{"the share is a link", linked(outside+"/dir", plan.ShareDir), plan.FileMount{Tag: "t", Filename: "f", Path: "/f"}, refused},
		{"a bundle is a link", bundle(linked(outside+"/file", deb)), plan.Trust{}, booted},
		{"a bundle is a fifo", bundle(fifo(deb)), plan.Trust{}, refused},
		{"a trust directory is a link", bundle(linked(outside+"/dir", "/usr/local/share/ca-certificates")), plan.Trust{}, booted},
	}
}

// memory is a mount that needs no device.
func memory(target string) plan.Mount { return plan.Mount{Source: "x", Target: target, Type: "tmpfs"} }

func file(name string) func(*testing.T) {
	return func(t *testing.T) { t.Helper(); write(t, name, "file") }
}

func linked(target, name string) func(*testing.T) {
	return func(t *testing.T) { t.Helper(); mkdir(t, filepath.Dir(name)); link(t, target, name) }
}

func directory(name string) func(*testing.T) {
	return func(t *testing.T) { t.Helper(); mkdir(t, name) }
}

func fifo(name string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		mkdir(t, filepath.Dir(name))
		if err := errors.Join(os.RemoveAll(name), syscall.Mkfifo(name, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
}

// socket stands for every device: a namespace can make none.
func socket(name string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
}

// bundle is a planting in a machine with an authority to add.
func bundle(plant func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { t.Helper(); write(t, "/.msb/tls/ca.pem", ca); plant(t) }
}

func booted(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("the boot ended: %v", err)
	}
}

func refused(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*boot.StepError](err); !ok {
		t.Errorf("got %v, want the step's error", err)
	}
}

// replaced says that /etc/hosts is ours now, whatever stood there.
func replaced(t *testing.T, err error) {
	t.Helper()
	booted(t, err)
	if st, err := os.Lstat("/etc/hosts"); err != nil || !st.Mode().IsRegular() || read(t, "/etc/hosts") != "new\n" {
		t.Errorf("/etc/hosts: %v, %v", st, err)
	}
}

// A root whose author wants the boot to write elsewhere, or to wait for ever. The
// boot may end, unless the step is one that a machine can live without; what is
// outside stays as it is.
func TestHostileRoots(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, tt := range hostileRoots() {
			t.Run(tt.name, func(t *testing.T) {
				freshRoot(t)
				write(t, outside+"/file", "outside\n")
				mkdir(t, outside+"/dir")
				tt.plant(t)
				before := snapshot(t)
				_, err := up(t, only(tt.step))
				tt.check(t, err)
				if after := snapshot(t); after != before {
					t.Errorf("outside was\n%sand is\n%s", before, after)
				}
			})
		}
	})
}

// freshRoot empties what the plantings use.
func freshRoot(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/etc", "/tmp", "/var", "/run", "/fs", "/.msb", "/usr/local", outside} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"/etc", "/tmp", "/var/tmp", "/run"} {
		mkdir(t, dir)
	}
}

// A root that is sealed can be written to by nobody, and a boot that fails after
// that has the seal as any other step.
//
//holds:boot 2: a sealed root: nobody writes, the boot's files are there, over layers and disks
func TestSeal(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		if _, err := up(t, only(plan.TempDirs{Paths: []string{"/tmp"}}, plan.Seal{})); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"/new", "/tmp/new"} {
			if err := os.WriteFile(name, nil, 0o600); !errors.Is(err, syscall.EROFS) {
				t.Errorf("write %s: %v", name, err)
			}
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT, ""); err != nil { // For the clean-up.
			t.Fatal(err)
		}
	})
}

// A root that cannot be written to boots, as it is.
func TestReadOnlyRoot(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		write(t, "/.msb/tls/ca.pem", ca)
		write(t, deb, old)
		remount := func(flags uintptr) {
			if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|flags, ""); err != nil {
				t.Fatal(err)
			}
		}
		remount(syscall.MS_RDONLY)
		m, err := up(t, only(
			plan.Hostname{Host: "box"}, plan.HostsFile{Content: "new\n"}, plan.TempDirs{Paths: []string{"/tmp", "/var/tmp", "/missing"}},
			plan.Trust{}, plan.ProfileBlock{}, plan.RunDirs{Paths: []string{"/run", "/run/microsandbox"}},
		))
		remount(0)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Env) != 4 {
			t.Errorf("environment %q", m.Env)
		}
		if name, err := os.Hostname(); err != nil || name != "box" {
			t.Errorf("host name %q, %v", name, err)
		}
	})
}
