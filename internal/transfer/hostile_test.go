package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// A guest's listing cannot make a copy write outside the target.
func TestHostileListing(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"..", ".", "../a", "/a", "b/../../a", ""} {
		end := transfer.End{Side: liar{name: name}, Name: from}
		if _, err := transfer.New(t.Context(), end, transfer.End{Side: host, Name: t.TempDir()}, transfer.Tree); err == nil {
			t.Errorf("name %q is taken", name)
		}
		if err := transfer.WriteTar(t.Context(), &bytes.Buffer{}, end, quiet(t)); err == nil {
			t.Errorf("an archive takes the name %q", name)
		}
	}
}

// A link that stands at the target is replaced, not written through; in the place of a
// directory it is refused, and nothing is copied.
func TestLinkInTheWay(t *testing.T) {
	from, to, outside := tree(t), t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := errors.Join(
		os.WriteFile(precious, []byte("mine"), 0o600),
		os.Symlink(precious, filepath.Join(to, "a")), os.Symlink(outside, filepath.Join(to, "private")),
	); err != nil {
		t.Fatal(err)
	}
	var refused *transfer.OverwriteError
	if _, err := transfer.New(t.Context(), end(from+"/."), end(to), transfer.Tree); !errors.As(err, &refused) {
		t.Errorf("a link in the place of a directory: %v", err)
	}
	if err := os.Remove(filepath.Join(to, "private")); err != nil {
		t.Fatal(err)
	}
	run(t, from+"/.", to)
	if b, err := os.ReadFile(precious); err != nil || string(b) != "mine" {
		t.Errorf("after the link: %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in the directory that the link leads to: %v", err)
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

// If a link replaces a directory in the middle of a copy, the link's target does not
// get the directory's permissions.
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
	if _, err := transfer.New(t.Context(), transfer.End{Side: twofaced{dir: "d", link: "l"}, Name: from + "/."}, end(to), transfer.Tree); err == nil {
		t.Error("a listing that has one name twice is taken")
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
	if err := host.Below(to).Mkdir(t.Context(), "d"); err == nil {
		t.Error("a link to a directory is taken for one")
	}
	if err := host.Below(to).Mkdir(t.Context(), "e/f"); err != nil {
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
	if _, err := transfer.New(t.Context(), end, transfer.End{Side: host, Name: t.TempDir()}, transfer.Tree); err == nil {
		t.Error("a copy without an end is planned")
	}
}

// giant is a machine whose files claim the largest size.
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
	p, err := transfer.New(t.Context(), transfer.End{Side: giant{}, Name: tree(t)}, end(filepath.Join(t.TempDir(), "x")), transfer.Tree)
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
		p, err := transfer.New(t.Context(), from, end(to), transfer.Tree)
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
	if err := errors.Join(w.Close(), transfer.ReadTar(t.Context(), end(to), &b, quiet(t))); err != nil {
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

// A chance is a machine with random listings: names of any type, in any order, some of
// them twice, and further ones below each directory.
type chance struct {
	transfer.Host
	r     *rand.Rand
	links []string // What its links may say.
}

type chanceInfo struct {
	name string
	mode fs.FileMode
}

func (i chanceInfo) Name() string               { return i.name }
func (i chanceInfo) Size() int64                { return int64(len(i.name)) }
func (i chanceInfo) Mode() fs.FileMode          { return i.mode }
func (chanceInfo) ModTime() time.Time           { return then }
func (i chanceInfo) IsDir() bool                { return i.mode.IsDir() }
func (chanceInfo) Sys() any                     { return nil }
func (i chanceInfo) Type() fs.FileMode          { return i.mode.Type() }
func (i chanceInfo) Info() (fs.FileInfo, error) { return i, nil }

func (s chance) Lstat(context.Context, string) (fs.FileInfo, error) {
	return chanceInfo{"top", fs.ModeDir | 0o777}, nil
}

func (s chance) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return s.Lstat(ctx, name)
}

func (s chance) ReadDir(_ context.Context, name string) (all []fs.DirEntry, err error) {
	if strings.Count(name, "/") > 4 {
		return nil, nil
	}
	kinds := []fs.FileMode{0o666, fs.ModeDir | 0o777, fs.ModeSymlink | 0o777, fs.ModeSetuid | 0o755, fs.ModeDir | 0o700}
	for range s.r.IntN(6) {
		all = append(all, chanceInfo{string(rune('a' + s.r.IntN(4))), kinds[s.r.IntN(len(kinds))]})
	}
	if s.r.IntN(20) > 0 { // Most listings name nothing twice, or no copy would begin.
		slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		all = slices.CompactFunc(all, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() })
		s.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	return all, nil
}

func (s chance) ReadLink(context.Context, string) (string, error) {
	return s.links[s.r.IntN(len(s.links))], nil
}

func (s chance) Open(_ context.Context, name string) (transfer.Reader, error) {
	return memory{strings.NewReader(filepath.Base(name))}, nil
}

type memory struct{ *strings.Reader }

func (memory) Close() error { return nil }

// No listing of a machine, in any order and repeated over its earlier files, changes
// anything outside the target. Meanwhile another process makes links in the target,
// like a guest that shares it.
func TestListingsByChance(t *testing.T) {
	const runs = 10_000
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	makeAll(t, top, "outside/", "outside/d/", "outside/precious", "outside/d/a")
	if err := os.Chmod(filepath.Join(outside, "precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := facts(t, outside)
	target := filepath.Join(top, "target")
	links := []string{outside, "../outside", "..", ".", outside + "/precious", outside + "/d", "a", "b/c", "/etc/passwd"}
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	copied := 0
	for n := range uint64(runs) {
		if n%10 == 0 {
			if err := os.RemoveAll(target); err != nil {
				t.Fatal(err)
			}
		}
		stop := make(chan struct{})
		var plants sync.WaitGroup
		plants.Go(func() { plant(stop, target, links, rand.New(rand.NewPCG(uint64(seed), n))) })
		from := transfer.End{Side: chance{r: r, links: links}, Name: "/x/."}
		if p, err := transfer.New(t.Context(), from, end(target), transfer.Tree); err == nil {
			_ = p.Do(t.Context(), new(transfer.Progress)) // It may fail at any name.
			copied++
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		plants.Wait()
		if after := facts(t, outside); !slices.Equal(after, before) {
			t.Fatalf("run %d: outside was\n%v, is\n%v", n, before, after)
		}
	}
	t.Logf("%d of %d listings were copied", copied, runs)
	if copied < runs/4 {
		t.Errorf("only %d of %d listings were copied", copied, runs)
	}
}

// plant replaces the files of a copy by links, until stop. It changes only the target
// itself.
func plant(stop <-chan struct{}, target string, links []string, r *rand.Rand) {
	for {
		select {
		case <-stop:
			return
		default:
			plantOne(target, links, r)
			runtime.Gosched()
		}
	}
}

func plantOne(target string, links []string, r *rand.Rand) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return // The copy has not made it yet.
	}
	defer func() { _ = root.Close() }()
	name := string(rune('a' + r.IntN(4)))
	if r.IntN(2) == 0 {
		name += "/" + string(rune('a'+r.IntN(4)))
	}
	_ = root.Rename(name, name+".old") // Each may fail: the copy is faster.
	_ = root.Symlink(links[r.IntN(len(links))], name)
	_ = root.RemoveAll(name + ".old")
}
