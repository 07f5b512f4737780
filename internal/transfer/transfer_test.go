package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/transfer"
)

var host transfer.Host

// quiet fails if anything is reported.
func quiet(t *testing.T) transfer.Reporter {
	t.Helper()
	return func(line string) { t.Error(line) }
}

func end(name string) transfer.End { return transfer.End{Side: host, Name: name} }

// run plans and does a copy on this host.
func run(t *testing.T, from, to string) *transfer.Plan {
	t.Helper()
	p, err := transfer.New(t.Context(), end(from), end(to), transfer.Tree)
	if err != nil {
		t.Fatal(err)
	}
	var done transfer.Progress
	if err := p.Do(t.Context(), &done); err != nil {
		t.Fatal(err)
	}
	if int(done.Files.Load()) != p.Files || done.Bytes.Load() != p.Bytes {
		t.Errorf("done %d files, %d bytes; planned %d, %d", done.Files.Load(), done.Bytes.Load(), p.Files, p.Bytes)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	return p
}

var then = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// tree makes a source with everything that is kept.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	for name, mode := range map[string]fs.FileMode{"": 0o755, "private": 0o700, "shared": 0o755 | fs.ModeSticky} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{"a": 0o644, "private/b": 0o600, "shared/run": 0o755 | fs.ModeSetuid, "empty": 0o444} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Repeat(name, len(name)%3*1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("a", filepath.Join(dir, "link")), os.Symlink("/nowhere", filepath.Join(dir, "dangling"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "private"), then, then); err != nil {
		t.Fatal(err)
	}
	// A link with another time than now.
	old := tar.Header{Name: "dangling", Typeflag: tar.TypeSymlink, Linkname: "/nowhere", ModTime: then}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&old), w.Close(), transfer.ReadTar(t.Context(), end(dir), &b, quiet(t))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// facts describe a tree: what must be the same in a copy.
func facts(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, says := strings.TrimPrefix(path, dir), ""
		if info.Mode()&fs.ModeSymlink != 0 {
			says, err = os.Readlink(path)
			all = append(all, name+" -> "+says+" "+info.ModTime().Truncate(time.Second).UTC().String())
			return err
		}
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			says = strconv.Itoa(int(crc32.ChecksumIEEE(b)))
		}
		all = append(all, name+" "+info.Mode().String()+" "+info.ModTime().Truncate(time.Second).UTC().String()+" "+says)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTree(t *testing.T) {
	from := tree(t)
	to := filepath.Join(t.TempDir(), "copy")
	if p := run(t, from, to); !p.Becomes {
		t.Error("it does not know that it made the target")
	}
	if all := strings.Join(facts(t, from), "\n"); !strings.Contains(all, "/dangling -> /nowhere "+then.String()) {
		t.Errorf("the source's link has another time:\n%s", all)
	}
	if got, want := facts(t, to), facts(t, from); !slices.Equal(got, want) {
		t.Errorf("copy:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Again: nothing is left to do.
	if p := run(t, from+"/.", to); p.Files != 0 || p.Skipped != 6 || p.Becomes {
		t.Errorf("again: %d files, %d skipped, makes the target: %v", p.Files, p.Skipped, p.Becomes)
	}
	// A file that was changed, one that is missing, and a link that is a file now.
	if err := errors.Join(
		os.WriteFile(filepath.Join(to, "a"), []byte("x"), 0o600), os.Remove(filepath.Join(to, "private", "b")),
		os.Remove(filepath.Join(to, "link")), os.WriteFile(filepath.Join(to, "link"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if p := run(t, from+"/.", to); p.Files != 3 || p.Skipped != 3 {
		t.Errorf("after changes: %d files, %d skipped", p.Files, p.Skipped)
	}
	if got, want := facts(t, to), facts(t, from); !slices.Equal(got, want) {
		t.Errorf("repaired:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTargets(t *testing.T) {
	from, dir := tree(t), t.TempDir()
	for _, tt := range []struct{ from, to, there string }{
		{"/a", "", "/a"},
		{"/a", "/new", "/new"},
		{"/link", "/followed", "/followed"},
		{"", "", "/tree/a"},
		{"/.", "", "/private/b"},
		{"/private", "/other", "/other/b"},
	} {
		run(t, from+tt.from, dir+tt.to)
		if _, err := os.Lstat(dir + tt.there); err != nil {
			t.Errorf("copy %q to %q: %v", tt.from, tt.to, err)
		}
	}
}

// The target of a link is copied if the copy is not recursive, or if the name ends like
// a directory's.
func TestLinksThatAreFollowed(t *testing.T) {
	from, to := tree(t), t.TempDir()
	if err := os.Symlink("private", filepath.Join(from, "way")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from, there string
		how         transfer.How
		mode        fs.FileMode // The type of what is there.
	}{
		{"/link", "/link", transfer.Files, 0},
		{"/way/", "/way/b", transfer.Tree, 0},
		{"/link", "/again", transfer.Tree, fs.ModeSymlink},
	} {
		target := to + "/" + strings.Split(tt.there, "/")[1]
		p, err := transfer.New(t.Context(), end(from+tt.from), end(target), tt.how)
		if err == nil {
			err = p.Do(t.Context(), new(transfer.Progress))
		}
		if err != nil {
			t.Errorf("copy %q: %v", tt.from, err)
		}
		if info, err := os.Lstat(to + tt.there); err != nil || info.Mode().Type() != tt.mode {
			t.Errorf("copy %q: %v, %v", tt.from, info, err)
		}
	}
}

// A copy gives its descriptors back.
func TestDescriptors(t *testing.T) {
	from := tree(t)
	run(t, from, filepath.Join(t.TempDir(), "first")) // What is opened once is open then.
	count := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(open)
	}
	before := count()
	for range 5 {
		run(t, from, filepath.Join(t.TempDir(), "copy"))
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestRefused(t *testing.T) {
	from := tree(t)
	if _, err := transfer.New(t.Context(), end(from), end(t.TempDir()), transfer.Files); !errors.Is(err, transfer.ErrDirectory) {
		t.Errorf("a directory without recursion: %v", err)
	}
	if _, err := transfer.New(t.Context(), end(from+"/nothing"), end(t.TempDir()), transfer.Tree); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := transfer.New(t.Context(), end(from+"/a"), end(t.TempDir()+"/missing/"), transfer.Tree); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a directory that is not there: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(from, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := run(t, from, t.TempDir()); len(p.Odd) != 1 || !strings.Contains(p.Odd[0], "fifo") {
		t.Errorf("left out: %v", p.Odd)
	}
}

// A file with holes takes no more room than its data, and is the same.
func TestHoles(t *testing.T) {
	const size, at = 64 << 20, 10 << 20
	from, to := filepath.Join(t.TempDir(), "sparse"), filepath.Join(t.TempDir(), "copy")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("in the middle"), at)
	if err = errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, from, to)
	info, err := os.Stat(to)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	if info.Size() != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d", info.Size(), st.Blocks*512)
	}
	b, err := os.ReadFile(to)
	if err != nil || string(b[at:at+13]) != "in the middle" || strings.Trim(string(b[:at]), "\x00") != "" {
		t.Errorf("other contents, %v", err)
	}
}

// broken is a side on which one file cannot be written to its end.
type broken struct {
	transfer.Host
	name string
}

type brokenTarget struct {
	transfer.Target
	name string
}

type brokenFile struct{ transfer.Writer }

func (b broken) Below(dir string) transfer.Target { return brokenTarget{b.Host.Below(dir), b.name} }

func (b broken) Top(dir string) transfer.Target { return b.Below(dir) }

func (b brokenTarget) Create(ctx context.Context, name string) (transfer.Writer, error) {
	w, err := b.Target.Create(ctx, name)
	if filepath.Base(name) == b.name {
		w = brokenFile{w}
	}
	return w, err
}

func (brokenFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// The failure of one file is reported and leaves no partial file. The other files are
// copied.
func TestFailure(t *testing.T) {
	from, to := tree(t), t.TempDir()
	p, err := transfer.New(t.Context(), end(from+"/."), transfer.End{Side: broken{name: "a"}, Name: to}, transfer.Tree)
	if err != nil {
		t.Fatal(err)
	}
	var done transfer.Progress
	if err := p.Do(t.Context(), &done); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(to, ".agentctl-*")); len(left) > 0 || err != nil {
		t.Errorf("parts stay: %v, %v", left, err)
	}
	if _, err := os.Lstat(filepath.Join(to, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(to, "shared/run")); err != nil {
		t.Errorf("another file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Do(ctx, &done); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

func TestMeter(t *testing.T) {
	p := &transfer.Plan{Files: 200, Bytes: 10 << 20, Skipped: 7}
	var done transfer.Progress
	start := time.Now()
	m := transfer.NewMeter(p, &done, start)
	if got := m.Line(start, 80); !strings.Contains(got, "  0%    0/200 files") || !strings.Contains(got, "-- left") {
		t.Errorf("at the start: %q", got)
	}
	done.Files.Store(100)
	done.Bytes.Store(5 << 20)
	if got, want := m.Line(start.Add(10*time.Second), 100), "[###############---------------]  50%  100/200 files     5.0 MiB/10.0 MiB   512.0 KiB/s     10s left"; got != want {
		t.Errorf("half way:\n%q, want\n%q", got, want)
	}
	for width, want := range map[int]string{
		70: " 50%  100/200 files     5.0 MiB/10.0 MiB   512.0 KiB/s     10s left", 50: " 50%  100/200 files   512.0 KiB/s     10s left",
		40: " 50%  100/200 files     10s left", 20: " 50%     10s left", 10: " 50%",
	} {
		if got := m.Line(start.Add(10*time.Second), width); got != want {
			t.Errorf("width %d: %q, want %q", width, got, want)
		}
	}
	for width := range 120 {
		if got := m.Line(start.Add(time.Hour), width); len(got) > width {
			t.Errorf("width %d: %d columns: %q", width, len(got), got)
		}
	}
	if got, want := m.Summary(start.Add(10*time.Second)), "100 files, 5.0 MiB in 10s (512.0 KiB/s), 7 unchanged"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
}

// An archive of a tree, unpacked, is the tree.
func TestTar(t *testing.T) {
	from, to := tree(t), t.TempDir()
	var b bytes.Buffer
	if err := transfer.WriteTar(t.Context(), &b, end(from), quiet(t)); err != nil {
		t.Fatal(err)
	}
	if err := transfer.ReadTar(t.Context(), end(to), &b, quiet(t)); err != nil {
		t.Fatal(err)
	}
	if got, want := facts(t, to+"/tree"), facts(t, from); !slices.Equal(got, want) {
		t.Errorf("unpacked:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// No member of an archive gets out of its directory, through links neither.
func TestHostileTar(t *testing.T) {
	for _, members := range [][]tar.Header{
		{{Name: "../out", Typeflag: tar.TypeReg}},
		{{Name: "a/../../out", Typeflag: tar.TypeReg}},
		{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "link/out", Typeflag: tar.TypeReg}},
		{{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "../out"}, {Name: "out", Typeflag: tar.TypeReg}},
		{{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		{{Name: "node", Typeflag: tar.TypeChar}},
	} {
		dir := t.TempDir()
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range members {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		leftOut := false
		err := transfer.ReadTar(t.Context(), end(filepath.Join(dir, "in")), &b, func(string) { leftOut = true })
		if len(members) == 1 && err == nil && !leftOut {
			t.Errorf("%q is taken", members[0].Name)
		}
		if _, err := os.Lstat(filepath.Join(dir, "out")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v got out: %v", members, err)
		}
	}
}

// Zeros that are written are left out as holes are, and what stands between them
// keeps its place.
func TestWrittenZeros(t *testing.T) {
	const chunk = 64 << 10
	zeros := make([]byte, chunk)
	for name, content := range map[string][]byte{
		"between": slices.Concat([]byte("begin"), zeros, zeros, zeros, []byte("end")),
		"aligned": slices.Concat(bytes.Repeat([]byte("x"), chunk), zeros, zeros, bytes.Repeat([]byte("y"), chunk), zeros, []byte("z")),
		"after":   slices.Concat(bytes.Repeat([]byte("x"), chunk), zeros, zeros),
		"nothing": slices.Concat(zeros, zeros, zeros[:10]),
	} {
		from, to := filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(from, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, side := range []transfer.Side{host, opaque{host}} {
			p, err := transfer.New(t.Context(), transfer.End{Side: side, Name: from}, end(to), transfer.Files)
			if err == nil {
				err = p.Do(t.Context(), new(transfer.Progress))
			}
			if got, failed := os.ReadFile(to); err != nil || failed != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes of %d, or others: %v, %v", name, len(got), len(content), err, failed)
			}
			if err := os.Remove(to); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// opaque is a side whose files do not report holes, like a machine's.
type opaque struct{ transfer.Side }

type opaqueFile struct{ transfer.Reader }

func (s opaque) Open(ctx context.Context, name string) (transfer.Reader, error) {
	f, err := s.Side.Open(ctx, name)
	return opaqueFile{f}, err
}
