package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/transfer"
)

// liar is a side that lists a file under another name.
type liar struct {
	transfer.Host
	name string
}

type lie struct {
	fs.DirEntry
	name string
}

func (l lie) Name() string { return l.name }

func (l liar) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	all, err := l.Host.ReadDir(ctx, name)
	for i := range all {
		all[i] = lie{all[i], l.name}
	}
	return all, err
}

// A guest's listing makes nobody write outside of the target.
func TestHostileListing(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"..", ".", "../a", "/a", "b/../../a", ""} {
		end := transfer.End{Side: liar{name: name}, Name: from}
		if _, err := transfer.New(t.Context(), end, transfer.End{Side: host, Name: t.TempDir()}, true); err == nil {
			t.Errorf("name %q is taken", name)
		}
		if err := transfer.WriteTar(t.Context(), &bytes.Buffer{}, end); err == nil {
			t.Errorf("an archive takes the name %q", name)
		}
	}
}

// A link that stands at the target is replaced, not written through; nor is one
// that stands in the place of a directory.
func TestLinkInTheWay(t *testing.T) {
	from, to, outside := tree(t), t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := errors.Join(
		os.WriteFile(precious, []byte("mine"), 0o600),
		os.Symlink(precious, filepath.Join(to, "a")), os.Symlink(outside, filepath.Join(to, "private")),
	); err != nil {
		t.Fatal(err)
	}
	run(t, from+"/.", to)
	if b, err := os.ReadFile(precious); err != nil || string(b) != "mine" {
		t.Errorf("behind the link: %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in the directory behind the link: %v", err)
	}
	if got, want := facts(t, to), facts(t, from); len(got) != len(want) {
		t.Errorf("copy %v, want %v", got, want)
	}
}

// twofaced is a machine that lists a directory and a link under one name.
type twofaced struct {
	transfer.Host
	dir, link string
}

func (s twofaced) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	all, err := s.Host.ReadDir(ctx, name)
	for i := range all {
		if all[i].Name() == s.link {
			all[i] = lie{all[i], s.dir}
		}
	}
	return all, err
}

func (s twofaced) ReadLink(ctx context.Context, name string) (string, error) {
	return s.Host.ReadLink(ctx, filepath.Join(filepath.Dir(name), s.link))
}

// A link that takes a directory's place in the middle of a copy gives nobody's file
// the directory's permissions.
func TestLinkAndDirectoryOfOneName(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(
		os.WriteFile(precious, []byte("mine"), 0o600),
		os.Mkdir(filepath.Join(from, "d"), 0o700), os.Chmod(filepath.Join(from, "d"), 0o777),
		os.Symlink(precious, filepath.Join(from, "l")),
		os.Mkdir(filepath.Join(to, "d"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	p, err := transfer.New(t.Context(), transfer.End{Side: twofaced{dir: "d", link: "l"}, Name: from + "/."}, end(to), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), new(transfer.Progress)); err == nil {
		t.Error("both were copied")
	}
	if info, err := os.Stat(precious); err != nil || info.Mode() != 0o600 {
		t.Errorf("behind the link: %v, %v", info.Mode(), err)
	}
}

// A directory is not made behind a link that another spelling of its name has (the
// target's file system may not tell capitals apart).
func TestMkdirBehindLink(t *testing.T) {
	to, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(to, "d")); err != nil {
		t.Fatal(err)
	}
	if err := host.Mkdir(t.Context(), filepath.Join(to, "d")); err == nil {
		t.Error("a link to a directory is taken for one")
	}
	if err := host.Mkdir(t.Context(), filepath.Join(to, "e", "f")); err != nil {
		t.Error(err)
	}
}

// bottomless is a machine whose every directory has another in it.
type bottomless struct{ transfer.Host }

func (bottomless) ReadDir(_ context.Context, name string) ([]fs.DirEntry, error) {
	info, err := os.Lstat(os.TempDir())
	return []fs.DirEntry{lie{fs.FileInfoToDirEntry(info), "directory"}}, err
}

func TestBottomless(t *testing.T) {
	end := transfer.End{Side: bottomless{}, Name: t.TempDir()}
	if _, err := transfer.New(t.Context(), end, transfer.End{Side: host, Name: t.TempDir()}, true); err == nil {
		t.Error("a copy without an end is planned")
	}
}

// giant is a machine whose files say to be as large as can be.
type giant struct{ transfer.Host }

type giantInfo struct{ fs.FileInfo }

func (giantInfo) Size() int64 { return math.MaxInt64 }

func (s giant) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	info, err := s.Host.Lstat(ctx, name)
	if err == nil && info.Mode().IsRegular() {
		info = giantInfo{info}
	}
	return info, err
}

func (s giant) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	all, err := s.Host.ReadDir(ctx, name)
	for i := range all {
		info, failed := s.Lstat(ctx, filepath.Join(name, all[i].Name()))
		all[i], err = fs.FileInfoToDirEntry(info), errors.Join(err, failed)
	}
	return all, err
}

// Sizes without a measure do not confuse the meter.
func TestGiants(t *testing.T) {
	p, err := transfer.New(t.Context(), transfer.End{Side: giant{}, Name: tree(t)}, end(filepath.Join(t.TempDir(), "x")), true)
	if err != nil {
		t.Fatal(err)
	}
	var done transfer.Progress
	if err := p.Do(t.Context(), &done); err != nil {
		t.Fatal(err)
	}
	m := transfer.NewMeter(p, &done, then)
	if p.Bytes != math.MaxInt64 || m.Line(then.Add(time.Second), 100) == "" {
		t.Errorf("%d bytes, %s", p.Bytes, m.Summary(then))
	}
}

// machine is a side that is not this host.
type machine struct{ transfer.Host }

// What a machine's file may do by its owner's rights, it may not do by ours.
func TestForeignOwner(t *testing.T) {
	to := filepath.Join(t.TempDir(), "x")
	from := transfer.End{Side: machine{}, Name: tree(t) + "/."}
	for again := range 2 {
		p, err := transfer.New(t.Context(), from, end(to), true)
		if err == nil {
			err = p.Do(t.Context(), new(transfer.Progress))
		}
		if err != nil || again > 0 && p.Files > 0 {
			t.Fatalf("%d files, %v", p.Files, err)
		}
	}
	for name, want := range map[string]fs.FileMode{"shared/run": 0o755, "shared": 0o755 | fs.ModeDir | fs.ModeSticky} {
		if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

// A link that an archive puts in the place of its own directory is not followed to
// its later members.
func TestArchiveReplacesDirectory(t *testing.T) {
	to, outside := t.TempDir(), t.TempDir()
	if err := os.Chmod(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside},
		{Name: "d/file", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "e/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "e", Typeflag: tar.TypeSymlink, Linkname: outside},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), transfer.ReadTar(t.Context(), end(to), &b)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("behind the link: %v, %v", left, err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("behind the link: %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(filepath.Join(to, "d", "file")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the later member: %v, %v", info, err)
	}
}
