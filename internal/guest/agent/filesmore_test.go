package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// filed is a client of an agent with the extension for files.
func filed(t *testing.T) *client.Client {
	t.Helper()
	return clientOf(t, 7, wire.Ready{Extensions: []string{wire.ExtensionFiles}})
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Times have nanoseconds, of files, links and entries of directories, and one time alone can
// be changed.
func TestNanoseconds(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		must(t, os.MkdirAll("/d", 0o755), os.WriteFile("/d/a", []byte("a"), 0o644), os.Symlink("a", "/d/link"))
		early, late := time.Unix(-7, 123456789), time.Unix(1700000000, 999999999)
		must(t, c.Chtimes(ctx, "/d/a", early, late), c.Lchtimes(ctx, "/d/link", late, early),
			c.Chtimes(ctx, "/d/a", time.Time{}, late))
		for name, want := range map[string][2]time.Time{"/d/a": {early, late}, "/d/link": {late, early}} {
			info, err := c.Lstat(ctx, name)
			must(t, err)
			if s, ok := info.Sys().(*client.Stat); !ok || !s.Atime.Equal(want[0]) || !info.ModTime().Equal(want[1]) {
				t.Errorf("%s: %+v, %v", name, info.Sys(), info.ModTime())
			}
		}
		all, err := c.ReadDir(ctx, "/d")
		must(t, err)
		info, err := all[0].Info()
		must(t, err)
		if !info.ModTime().Equal(late) {
			t.Errorf("in a listing: %v", info.ModTime())
		}
		f, err := c.Open(ctx, "/d/a")
		must(t, err)
		must(t, f.Chtimes(late, early))
		if info, err = f.Stat(); err != nil || !info.ModTime().Equal(early) {
			t.Errorf("of an open file: %v, %v", info.ModTime(), err)
		}
		must(t, f.Close())
	})
}

// A file has two names, and says so.
func TestHardLinks(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		must(t, os.WriteFile("/a", []byte("a"), 0o644), os.Symlink("a", "/link"))
		must(t, c.Link(ctx, "/a", "/b"), c.Link(ctx, "/link", "/link2"))
		one, err := c.Lstat(ctx, "/a")
		must(t, err)
		two, err := c.Lstat(ctx, "/b")
		must(t, err)
		s, _ := one.Sys().(*client.Stat)
		if s2, _ := two.Sys().(*client.Stat); s.Links != 2 || s.Inode != s2.Inode || s.Device != s2.Device || s.Ctime.IsZero() {
			t.Errorf("%+v, %+v", s, s2)
		}
		if info, err := c.Lstat(ctx, "/link2"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the second name of a link: %v, %v", info, err)
		}
		err = c.Link(ctx, "/a", "/b")
		if le, ok := errors.AsType[*os.LinkError](err); !ok || le.Op != "link" || !errors.Is(err, fs.ErrExist) {
			t.Errorf("a name that exists: %v", err)
		}
		if err := c.Link(ctx, "/none", "/c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file that does not exist: %v", err)
		}
	})
}

// Attributes are set, read, listed and removed; a file system without them says so.
func TestXattrs(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		must(t, os.WriteFile("/a", []byte("a"), 0o644), os.Symlink("a", "/link"))
		value := []byte{0, 255, 'x'}
		err := c.Setxattr(ctx, "/link", "user.one", value)
		if errors.Is(err, errors.ErrUnsupported) { // Kernels before 6.6 have none on a tmpfs.
			if pe, ok := errors.AsType[*fs.PathError](err); !ok || pe.Op != "setxattr" {
				t.Errorf("%#v", err)
			}
			return
		}
		must(t, err, c.Setxattr(ctx, "/a", "user.two", nil))
		got, err := c.Getxattr(ctx, "/link", "user.one")
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%q, %v", got, err)
		}
		names, err := c.Listxattr(ctx, "/a")
		if slices.Sort(names); err != nil || !slices.Equal(names, []string{"user.one", "user.two"}) {
			t.Errorf("%q, %v", names, err)
		}
		must(t, c.Removexattr(ctx, "/a", "user.one"))
		if _, err = c.Getxattr(ctx, "/a", "user.one"); !errors.Is(err, syscall.ENODATA) {
			t.Errorf("a removed one: %v", err)
		}
		if names, err := c.Llistxattr(ctx, "/link"); err != nil || len(names) != 0 {
			t.Errorf("of a link: %q, %v", names, err)
		}
		if err := c.Lsetxattr(ctx, "/link", "user.a", value); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a link has no user attributes: %v", err)
		}
		for _, name := range []string{"", "none", "user.a\x00b"} {
			if err := c.Setxattr(ctx, "/a", name, nil); err == nil {
				t.Errorf("the name %q was taken", name)
			}
		}
	})
}

// A file is synced, and a file system described.
func TestSyncAndStatFS(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		f, err := c.Create(ctx, "/a")
		must(t, err)
		_, err = f.Write([]byte("x"))
		must(t, err, f.Sync(), f.Close())
		if err := f.Sync(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		s, err := c.StatFS(ctx, "/proc")
		if err != nil || s.Kind != 0x9fa0 || s.Block == 0 || s.MaxName != 255 {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := c.StatFS(ctx, "/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		plain := clientOf(t, 7, wire.Ready{})
		if f, err = plain.Open(ctx, "/a"); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("without the extension: %v", err)
		}
	})
}

// Holes stay holes, whatever follows them.
func TestCopyKeepsHoles(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		const size = 64 << 20
		for _, at := range []int64{-1, 0, 1 << 20, size - 4096} {
			f, err := os.Create("/from")
			must(t, err, f.Truncate(size))
			if at >= 0 {
				_, err = f.WriteAt(bytes.Repeat([]byte("x"), 4096), at)
			}
			must(t, err, f.Close(), os.WriteFile("/to", make([]byte, 100), 0o600), c.Copy(ctx, "/from", "/to"))
			want, err := os.ReadFile("/from")
			must(t, err)
			got, err := os.ReadFile("/to")
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("data at %d: %d bytes, %v", at, len(got), err)
			}
			var st syscall.Stat_t
			if err := syscall.Stat("/to", &st); err != nil || st.Blocks*512 > 1<<20 {
				t.Errorf("data at %d: %d blocks, %v", at, st.Blocks, err)
			}
		}
		for _, name := range []string{"/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"} {
			want, err := os.ReadFile(name)
			if err != nil {
				continue // Not in this root.
			}
			must(t, c.Copy(ctx, name, "/copy"))
			if got, err := os.ReadFile("/copy"); err != nil || len(got) == 0 || len(got) > 2*len(want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	})
}

// opened opens /a for reading.
func opened(ctx context.Context, t *testing.T, c *client.Client) *client.File {
	t.Helper()
	f, err := c.Open(ctx, "/a")
	must(t, err)
	return f
}

// Locks share, exclude, wait, and end with their file.
func TestLocks(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		must(t, os.WriteFile("/a", nil, 0o644))
		one, two := opened(ctx, t, c), opened(ctx, t, c)
		must(t, one.Lock(client.LockShared), two.Lock(client.LockShared))
		if ok, err := two.TryLock(client.LockExclusive); ok || err != nil {
			t.Errorf("exclusive beside shared: %v, %v", ok, err)
		}
		must(t, two.Unlock(), one.Lock(client.LockExclusive))
		if ok, err := two.TryLock(client.LockShared); ok || err != nil {
			t.Errorf("shared beside exclusive: %v, %v", ok, err)
		}
		// More wait than there are turns among the calls: a lock that waits holds none.
		waiting, give := context.WithCancel(ctx)
		var gone sync.WaitGroup
		for range 50 {
			f := opened(waiting, t, c)
			gone.Go(func() { _ = f.Lock(client.LockExclusive) })
			_, err := c.Stat(ctx, "/a")
			must(t, err)
		}
		waits := make(chan error, 1)
		go func() { waits <- two.Lock(client.LockExclusive) }()
		give()
		gone.Wait()
		must(t, one.Close(), <-waits) // A lock that one of the fifty gets is released at once.
	})
}

// A lock of a program of the guest is waited for, and its end is found. A file that is closed
// waits no longer.
func TestLocksOfPrograms(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c, ctx := filed(t), t.Context()
		must(t, os.WriteFile("/a", nil, 0o644))
		program, err := os.Open("/a")
		must(t, err, syscall.Flock(int(program.Fd()), syscall.LOCK_EX))
		f, closed := opened(ctx, t, c), opened(ctx, t, c)
		ends := make(chan error, 1)
		go func() { ends <- closed.Lock(client.LockShared) }()
		if ok, err := f.TryLock(client.LockShared); ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
		must(t, closed.Close())
		if err := <-ends; !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a file that was closed: %v", err)
		}
		waits := make(chan error, 1)
		go func() { waits <- f.Lock(client.LockShared) }()
		must(t, program.Close(), <-waits, f.Close())
	})
}
