package boot_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/nstest"
)

// program makes a file with a mode.
func program(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	write(t, name, "#!/bin/sh\n")
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// "auto" takes the first candidate that the kernel would execute, through links
// of the image, as the kernel sees them.
func TestAutoInit(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		for _, dir := range []string{"/lib", "/usr"} { // The host's, to be read only.
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
		}
		const first, second, third = "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"
		for _, tt := range []struct {
			name string
			path string // Is made, in place of the existing file,
			mode os.FileMode
			link string // or leads there.
			want string // Or a part of the error.
		}{
			{"none", "", 0, "", "no init found: /sbin/init: no such file or directory; /lib/systemd/systemd: no such file or directory; /usr/lib"},
			{"by its other name", third, 0o755, "", second}, // /lib is a link to usr/lib.
			{"the second", second, 0o700, "", second},
			{"not executable", first, 0o644, "", second},
			{"executable by others alone", first, 0o601, "", first},
			{"a directory", first, os.ModeDir | 0o755, "", second},
			{"a link that leads nowhere", first, 0, "/nowhere", second},
			{"a link to itself", first, 0, first, second},
			{"a link out of the root", first, 0, "../../../../lib/systemd/systemd", first},
		} {
			t.Run(tt.name, func(t *testing.T) {
				put(t, tt.path, tt.mode, tt.link)
				m, err := up(t, only(plan.Handover{Init: plan.AutoInit}))
				switch {
				case err != nil && (tt.want[0] == '/' || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("got %v, want %s", err, tt.want)
				case err == nil && m.Init.Path != tt.want:
					t.Errorf("got %s, want %s", m.Init.Path, tt.want)
				}
			})
		}
	})
}

// put makes a program, a directory or a link.
func put(t *testing.T, path string, mode os.FileMode, link string) {
	t.Helper()
	if path == "" {
		return
	}
	mkdir(t, filepath.Dir(path))
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	switch {
	case link != "":
		if err := os.Symlink(link, path); err != nil {
			t.Fatal(err)
		}
	case mode.IsDir():
		mkdir(t, path)
	default:
		program(t, path, mode)
	}
}

// A mount without execution is found before PID 1 is given away.
func TestInitOnNoExec(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		mkdir(t, "/m")
		p := only(plan.TmpfsMount{Mount: plan.Mount{Source: "tmpfs", Type: "tmpfs", Target: "/m", Flags: plan.NoExec}})
		mustUp(t, p)
		program(t, "/m/init", 0o755)
		_, err := up(t, only(plan.Handover{Init: "/m/init"}))
		if err == nil || !strings.Contains(err.Error(), "init /m/init: not executable where it is mounted: permission denied") {
			t.Errorf("got %v", err)
		}
	})
}

// The init gets what commands get, the certificate authorities too, and its own
// variables over that; every argument as it is.
func TestInitIsGiven(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		write(t, "/.msb/tls/ca.pem", ca)
		program(t, "/sbin/init", 0o755)
		p := only(plan.Trust{}, plan.Handover{
			Init: "/sbin/init", Args: []string{"", "a b", "\n"}, Cwd: "/etc", Env: []string{"B=2", "CURL_CA_BUNDLE=mine"},
		})
		p.Commands.Env = []string{"A=1", "B=1"}
		m := mustUp(t, p)
		if want := []string{"/sbin/init", "", "a b", "\n"}; !slices.Equal(m.Init.Argv, want) {
			t.Errorf("arguments %q, want %q", m.Init.Argv, want)
		}
		for _, want := range []string{"A=1", "B=2", "CURL_CA_BUNDLE=mine", "SSL_CERT_FILE=" + deb, "NODE_EXTRA_CA_CERTS=/.msb/tls/ca.pem"} {
			if !slices.Contains(m.Init.Env, want) {
				t.Errorf("no %s in %q", want, m.Init.Env)
			}
		}
		if m.Init.Dir != "/etc" {
			t.Errorf("directory %q", m.Init.Dir)
		}
	})
}

// What systemd finds: an identity only where nothing has its name, and masks of what
// would ask at the console, on a tmpfs that it keeps. Another init finds nothing of that.
func TestMachineID(t *testing.T) {
	const id, systemd, other = "/etc/machine-id", "/opt/systemd", "/bin/busybox"
	nstest.Run(t, func() {
		nstest.Root(t)
		put(t, systemd, 0o755, "")
		write(t, "/sys/class/tty/console/active", "tty0 ttyS0\n")
		for _, tt := range []struct {
			name, init string
			before     func()
			want       string // What is there afterwards: "none", "link", or content.
		}{
			{"missing", systemd, func() {}, ""},
			{"by a link", "/opt/init", func() { put(t, "/opt/init", 0, systemd) }, ""},
			{"another init", other, func() {}, "none"},
			{"there", systemd, func() { write(t, id, "uninitialized\n") }, "uninitialized\n"},
			{"run is mounted", systemd, func() {
				if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
					t.Fatal(err)
				}
			}, ""},
			{"a link to nowhere", systemd, func() { put(t, id, 0, "/run/id") }, "link"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				if err := os.RemoveAll(id); err != nil {
					t.Fatal(err)
				}
				tt.before()
				if _, err := up(t, only(plan.Handover{Init: tt.init})); err != nil {
					t.Fatal(err)
				}
				if got := identity(t, id); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				masked(t, tt.init != other)
			})
		}
	})
}

// masked holds that the units are masked in a file system that is gone with the boot, or
// that there is none, and takes that away.
func masked(t *testing.T, want bool) {
	t.Helper()
	for _, unit := range []string{"systemd-firstboot", "systemd-homed-firstboot", "console-getty", "serial-getty@tty0", "serial-getty@ttyS0"} {
		if to, _ := os.Readlink("/run/systemd/system/" + unit + ".service"); (to == "/dev/null") != want {
			t.Errorf("%s leads to %q, masked: want %v", unit, to, want)
		}
	}
	if err := syscall.Unmount("/run", 0); (err == nil) != want {
		t.Errorf("a mount at /run: %v, want %v", err, want)
	}
	if err := syscall.Unmount("/run", 0); err == nil {
		t.Error("two mounts at /run")
	}
}

// identity identifies the file under a name.
func identity(t *testing.T, name string) string {
	t.Helper()
	info, err := os.Lstat(name)
	switch {
	case err != nil:
		return "none"
	case info.Mode()&os.ModeSymlink != 0:
		return "link"
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
