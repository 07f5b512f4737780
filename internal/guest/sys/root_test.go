package sys_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
)

// newRoot is a root beside a place that nothing may reach: a directory with a
// file, and links of all kinds to it.
func newRoot(t *testing.T) (root *sys.Root, dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "root"), filepath.Join(top, "outside")
	for _, d := range []string{dir + "/etc", dir + "/real", outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{outside + "/secret": "secret", dir + "/etc/file": "file", dir + "/real/inner": "inner"} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"out": outside, "up": "../outside", "deep": "../../../../../../../../.." + outside, "loop": "loop", "dangling": "nowhere",
		"in": "real", "abs": "/real", "toFile": "/real/inner", "toSecret": outside + "/secret", "proc": "/proc/self/root",
		"chain": "in", "etc/parent": "..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	root, err := sys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir, outside
}

// Writing follows no link; the names that it takes are those beneath the root.
func TestWritesStayInside(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   string // Beneath the root; "" is refused.
		link bool   // Refused because of a link.
	}{
		{"new", "new", false},
		{"/new", "new", false},
		{"//etc//new", "etc/new", false},
		{"etc/../new", "new", false},
		{"../../new", "new", false},
		{"/../outside/new", "outside/new", false},
		{"a/b/c/new", "a/b/c/new", false},
		{"etc/file", "etc/file", false},
		{"dangling", "dangling", false}, // Replaced, like any last component.
		{"toSecret", "toSecret", false},
		{"fifo", "fifo", false},
		{"loop", "loop", false},
		{"out/new", "", true},
		{"up/new", "", true},
		{"deep/new", "", true},
		{"in/new", "", true},
		{"abs/new", "", true},
		{"chain/new", "", true},
		{"loop/new", "", true},
		{"dangling/new", "", true},
		{"proc/new", "", true},
		{"etc/parent/new", "", true},
		{"etc/file/new", "", false},
		{"etc", "", false},
		{"fifo/new", "", false},
	} {
		check := func(t *testing.T, write func(root *sys.Root) error) {
			t.Helper()
			root, dir, outside := newRoot(t)
			err := write(root)
			if tt.at == "" {
				if err == nil || errors.Is(err, sys.ErrLink) != tt.link {
					t.Errorf("got %v, want an error because of a link: %t", err, tt.link)
				}
			} else {
				checkFile(t, filepath.Join(dir, tt.at), err)
			}
			checkOutside(t, outside)
			if left, _ := filepath.Glob(dir + "/.*.agentd"); left != nil {
				t.Errorf("left behind: %v", left)
			}
		}
		t.Run("write "+tt.name, func(t *testing.T) {
			check(t, func(root *sys.Root) error { return root.WriteFile(tt.name, []byte("written"), 0o640) })
		})
		t.Run("renew "+tt.name, func(t *testing.T) {
			check(t, func(root *sys.Root) error { return root.RenewFile(tt.name, []byte("written"), 0o640) })
		})
	}
}

func checkFile(t *testing.T, name string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil || string(b) != "written" {
		t.Errorf("%s: %q, %v", name, b, err)
	}
	if st, err := os.Lstat(name); err != nil || st.Mode() != 0o640 {
		t.Errorf("%s: mode %v, %v", name, st.Mode(), err)
	}
}

func checkOutside(t *testing.T, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside holds %v, %v", entries, err)
	}
	if b, err := os.ReadFile(outside + "/secret"); err != nil || string(b) != "secret" {
		t.Errorf("the file outside is %q, %v", b, err)
	}
}

// Reading follows links, which mean what they would with the root as root.
func TestReadsStayInside(t *testing.T) {
	root, _, _ := newRoot(t)
	for _, tt := range []struct {
		name, want string
		err        error // nil with no want: any.
	}{
		{"etc/file", "file", nil},
		{"in/inner", "inner", nil},
		{"abs/inner", "inner", nil},
		{"chain/inner", "inner", nil},
		{"toFile", "inner", nil},
		{"etc/parent/etc/file", "file", nil},
		{"../../etc/file", "file", nil},
		{"missing", "", fs.ErrNotExist},
		{"dangling", "", fs.ErrNotExist},
		{"toSecret", "", fs.ErrNotExist},
		{"out/secret", "", fs.ErrNotExist},
		{"up/secret", "", fs.ErrNotExist},
		{"deep/secret", "", fs.ErrNotExist},
		{"loop", "", syscall.ELOOP},
		{"etc", "", nil},
		{"fifo", "", nil}, // And does not wait for a writer.
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := root.ReadFile(tt.name, 100)
			if string(b) != tt.want || (err == nil) != (tt.want != "") || (tt.err != nil && !errors.Is(err, tt.err)) {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

func TestReadFileLimit(t *testing.T) {
	root, dir, _ := newRoot(t)
	for _, tt := range []struct {
		size  int
		limit int64
		ok    bool
	}{{0, 0, true}, {1, 0, false}, {100, 100, true}, {101, 100, false}, {1 << 20, 100, false}} {
		if err := os.WriteFile(dir+"/sized", make([]byte, tt.size), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := root.ReadFile("sized", tt.limit); (err == nil) != tt.ok || (tt.ok && len(b) != tt.size) {
			t.Errorf("%d bytes with limit %d: %d, %v", tt.size, tt.limit, len(b), err)
		}
	}
}

// A file with the wanted content and mode is left alone; any other is replaced.
func TestRenewFile(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(dir string) error
		kept   bool
	}{
		"nothing":     {func(string) error { return nil }, true},
		"content":     {func(dir string) error { return os.WriteFile(dir+"/f", []byte("xritten"), 0o640) }, false},
		"a part":      {func(dir string) error { return os.Truncate(dir+"/f", 3) }, false},
		"more":        {func(dir string) error { return os.WriteFile(dir+"/f", []byte("written more"), 0o640) }, false},
		"permissions": {func(dir string) error { return os.Chmod(dir+"/f", 0o600) }, false},
		"other name":  {func(dir string) error { return os.Link(dir+"/f", dir+"/g") }, false},
		"link": {func(dir string) error {
			return errors.Join(os.Rename(dir+"/f", dir+"/g"), os.Symlink("g", dir+"/f"))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root, dir, _ := newRoot(t)
			renew := func() os.FileInfo {
				checkFile(t, dir+"/f", root.RenewFile("f", []byte("written"), 0o640))
				st, err := os.Lstat(dir + "/f")
				if err != nil {
					t.Fatal(err)
				}
				return st
			}
			before := renew()
			if err := tt.change(dir); err != nil {
				t.Fatal(err)
			}
			if kept := os.SameFile(before, renew()); kept != tt.kept {
				t.Errorf("the same file: %t, want %t", kept, tt.kept)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	root, dir, outside := newRoot(t)
	again := func(old []byte) []byte { return append([]byte("+"), old...) }
	for _, want := range []string{"file+file", "file+file+file+file"} {
		if err := root.Append("/etc/file", 100, again); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(dir + "/etc/file"); err != nil || string(b) != want {
			t.Fatalf("%q, %v, want %q", b, err, want)
		}
	}
	if err := os.Link(dir+"/real/inner", dir+"/linked"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want error // nil: any.
	}{
		{"toFile", sys.ErrLink},
		{"toSecret", sys.ErrLink},
		{"in/inner", sys.ErrLink},
		{"dangling", sys.ErrLink},
		{"missing", fs.ErrNotExist},
		{"linked", sys.ErrNotAlone},
		{"fifo", nil},
		{"etc", syscall.EISDIR},
	} {
		err := root.Append(tt.name, 100, func([]byte) []byte {
			t.Errorf("%s: asked for more", tt.name)
			return nil
		})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := root.Append("/etc/file", 10, again); err == nil {
		t.Error("a file above the limit was appended to")
	}
	checkOutside(t, outside)
}

// A file that is a mount belongs to whoever mounted it, and a full disk takes all or
// nothing.
func TestAppendInVain(t *testing.T) {
	nstest.Run(t, func() {
		root, dir, outside := newRoot(t)
		if err := syscall.Mount(outside+"/secret", dir+"/etc/file", "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		if err := root.Append("/etc/file", 100, func(old []byte) []byte { return old }); !errors.Is(err, sys.ErrNotAlone) {
			t.Errorf("a mount: %v", err)
		}
		if err := syscall.Mount("full", dir+"/real", "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/real/f", []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		more := func([]byte) []byte { return make([]byte, 1<<20) }
		if err := root.Append("/real/f", 100, more); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a full disk: %v", err)
		}
		if b, err := os.ReadFile(dir + "/real/f"); err != nil || string(b) != "old" {
			t.Errorf("%d bytes are left, %v", len(b), err)
		}
		for _, name := range []string{dir + "/etc/file", dir + "/real"} { // For the test's own end.
			if err := syscall.Unmount(name, 0); err != nil {
				t.Error(err)
			}
		}
		checkOutside(t, outside)
	})
}

// Whoever reads while a file is written sees the old content or the new one.
func TestWriteFileIsAtomic(t *testing.T) {
	root, dir, _ := newRoot(t)
	contents := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	if err := root.WriteFile("f", contents[0], 0o644); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := root.WriteFile("f", contents[i%2], 0o644); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 2000 {
		b, err := os.ReadFile(dir + "/f")
		if err != nil || (!bytes.Equal(b, contents[0]) && !bytes.Equal(b, contents[1])) {
			t.Errorf("%d bytes, %v", len(b), err)
			break
		}
	}
	close(stop)
	<-stopped
}

func TestSticky(t *testing.T) {
	root, dir, outside := newRoot(t)
	const want = fs.ModeDir | fs.ModeSticky | 0o777
	for _, name := range []string{"/tmp", "real", "a/b"} {
		for range 2 {
			if err := root.Sticky(name); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	for name, sticky := range map[string]bool{"real": true, "in": true, "abs": true, "etc": false, "out": false, "loop": false, "missing": false} {
		if got := root.IsSticky(name); got != sticky {
			t.Errorf("IsSticky(%s) is %t", name, got)
		}
	}
	if err := root.Sticky("out"); !errors.Is(err, sys.ErrLink) {
		t.Errorf("a link was made sticky: %v", err)
	}
	if st, err := os.Stat(outside); err != nil || st.Mode()&fs.ModeSticky != 0 {
		t.Errorf("outside: %v, %v", st.Mode(), err)
	}
}

// No name and no arrangement of links makes a write leave the root.
func FuzzRoot(f *testing.F) {
	for _, name := range []string{"a", "../a", "out/a", "in/../out/a", "etc/parent/../outside/a", "deep", "\x00", "proc/../a", strings.Repeat("x/", 300)} {
		f.Add(name, "../outside")
	}
	f.Fuzz(func(t *testing.T, name, target string) {
		root, dir, outside := newRoot(t)
		_ = os.Symlink(target, dir+"/planted") // Not every text is a target.
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, name := range []string{name, "planted/" + name, "planted"} {
				_ = root.WriteFile(name, []byte("x"), 0o644)
				_ = root.MkdirAll(name, 0o755)
				_ = root.Symlink("x", name)
				_ = root.Sticky(name)
				if b, err := root.ReadFile(name, 100); err == nil && string(b) == "secret" {
					t.Errorf("%q reads what is outside", name)
				}
			}
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%q waits", name)
		}
		checkOutside(t, outside)
	})
}
