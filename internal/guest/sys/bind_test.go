package sys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
)

// Binding shows a file at any place beneath the root and follows no link.
func TestBindFile(t *testing.T) {
	nstest.Run(t, func() {
		root, dir, outside := newRoot(t)
		if err := os.WriteFile(filepath.Join(dir, "real/other"), []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			source, target string
			want           error // nil: bound.
		}{
			{"real/inner", "new", nil},
			{"real/inner", "/a/b/new", nil},
			{"real/inner", "etc/file", nil},
			{"real/inner", "fifo", nil}, // Hidden, never opened.
			{"real/inner", "toFile", sys.ErrLink},
			{"real/inner", "toSecret", sys.ErrLink},
			{"real/inner", "dangling", sys.ErrLink},
			{"real/inner", "loop", sys.ErrLink},
			{"real/inner", "out/secret", sys.ErrLink},
			{"real/inner", "in/other", sys.ErrLink},
			{"real/inner", "proc/new", sys.ErrLink},
			{"real/inner", "real", syscall.EISDIR},
			{"real/inner", "etc/file/new", syscall.ENOTDIR},
			{"nowhere", "new2", syscall.ENOENT},
			{"toFile", "new2", sys.ErrLink},
			{"toSecret", "new2", sys.ErrLink},
		} {
			err := root.BindFile(tt.source, tt.target, sys.ReadOnly|sys.NoSUID)
			if !errors.Is(err, tt.want) {
				t.Errorf("%s on %s: got %v, want %v", tt.source, tt.target, err, tt.want)
			}
			if err == nil {
				checkBound(t, filepath.Join(dir, tt.target))
			}
		}
		if err := syscall.Mkfifo(filepath.Join(dir, "fifo2"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, source := range []string{"real", "fifo2"} {
			if err := root.BindFile(source, "new2", 0); err == nil || !strings.Contains(err.Error(), "mount "+source+" (type bind) on new2: ") {
				t.Errorf("%s is bound: %v", source, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(dir, "new2")); err == nil {
			t.Error("a target was made in vain")
		}
		if b, err := os.ReadFile(filepath.Join(outside, "secret")); string(b) != "secret" {
			t.Errorf("outside: %q, %v", b, err)
		}
	})
}

func checkBound(t *testing.T, name string) {
	t.Helper()
	if b, err := os.ReadFile(name); string(b) != "inner" {
		t.Errorf("%s holds %q, %v", name, b, err)
	}
	if err := os.WriteFile(name, nil, 0); !errors.Is(err, syscall.EROFS) {
		t.Errorf("%s can be written to: %v", name, err)
	}
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), " "+name+" ") || !strings.Contains(string(b), " ro,nosuid,") {
		t.Errorf("%s is not mounted read-only and nosuid:\n%s", name, b)
	}
	if err := syscall.Unmount(name, 0); err != nil {
		t.Error(err)
	}
}

func TestBindDirs(t *testing.T) {
	nstest.Run(t, func() {
		root, dir, _ := newRoot(t)
		if err := syscall.Mount("inner", filepath.Join(dir, "etc"), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"in", "out", "loop", "chain"} {
			if err := root.BindDir("real", target, 0); !errors.Is(err, sys.ErrLink) {
				t.Errorf("on %s: %v", target, err)
			}
		}
		const writable, readOnly = 0, sys.ReadOnly
		for _, tt := range []struct {
			target string
			err    error
			below  error // Of a file that the mount below has not.
			write  error
		}{
			{"a/b", root.BindDir(".", "a/b", writable), nil, nil},
			{"a/c", root.BindTree(".", "a/c", readOnly), fs.ErrNotExist, syscall.EROFS},
		} {
			at := filepath.Join(dir, tt.target)
			if tt.err != nil {
				t.Fatal(tt.err)
			}
			if _, err := os.Stat(at + "/real/inner"); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(at + "/etc/file"); !errors.Is(err, tt.below) {
				t.Errorf("%s: below there is, or is not, another mount: %v", tt.target, err)
			}
			if err := os.WriteFile(at+"/new", nil, 0o644); !errors.Is(err, tt.write) {
				t.Errorf("%s: written to: %v", tt.target, err)
			}
		}
		for _, name := range []string{"a/c", "a/b", "etc"} { // For the test's own end.
			if err := syscall.Unmount(filepath.Join(dir, name), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestFindDisk(t *testing.T) {
	if _, err := sys.FindDisk("no disk has this serial"); !errors.Is(err, sys.ErrNoDisk) {
		t.Errorf("found: %v", err)
	}
	if _, err := sys.OpenDisk("/nonexistent"); !errors.Is(err, sys.ErrNoDisk) {
		t.Errorf("opened: %v", err)
	}
	if _, err := sys.OpenDisk("/dev/null"); !errors.Is(err, syscall.ENOTBLK) {
		t.Errorf("opened: %v", err)
	}
}

// Poking makes no file.
func TestPoke(t *testing.T) {
	root, dir, _ := newRoot(t)
	for name, want := range map[string]error{"real/inner": nil, "nowhere": syscall.ENOENT, "toFile": sys.ErrLink, "fifo": syscall.ENXIO} {
		if err := root.Poke(name, "poked"); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "real/inner")); string(b) != "poked" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}
