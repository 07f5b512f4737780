package tree_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/pax"
	"github.com/agentd-go/agentd/internal/tree"
)

func source(b []byte) pax.Source {
	r := bytes.NewReader(b)
	buf := make([]byte, 5000)
	return func() ([]byte, error) {
		n, err := r.Read(buf)
		return buf[:n], err
	}
}

// make1 makes a tree with everything that an ordinary user can make.
func make1(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(top, name) }
	must(os.MkdirAll(at("d/e/f"), 0o755))
	must(os.WriteFile(at("d/small"), []byte("hello"), 0o640))
	must(os.WriteFile(at("d/none"), nil, 0o600))
	must(os.WriteFile(at("d/e/large"), bytes.Repeat([]byte("0123456789"), 50000), 0o644))
	must(os.WriteFile(at("d/e/\xff bytes"), []byte("x"), 0o644))
	must(os.WriteFile(at("d/special"), []byte("s"), 0o755))
	must(os.Chmod(at("d/special"), 0o755|fs.ModeSetuid|fs.ModeSticky))
	must(os.Symlink("../nowhere/"+strings.Repeat("x", 150), at("d/link")))
	must(os.Link(at("d/small"), at("d/e/second")))
	must(unix.Mkfifo(at("fifo"), 0o620))
	holes, err := os.Create(at("holes"))
	must(err)
	for _, offset := range []int64{0, 1 << 20, 3 << 20} {
		_, err := holes.WriteAt(bytes.Repeat([]byte("data"), 2000), offset)
		must(err)
	}
	must(holes.Truncate(8 << 20))
	must(holes.Close())
	if err := unix.Setxattr(at("d/small"), "user.test", []byte("\x00value"), 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal(err)
	}
	must(os.WriteFile(at("z"), nil, 0o444))
	times(t, top)
	must(os.Chmod(at("d/e"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(at("d/e"), 0o700) })
	return top
}

// times gives all files of a tree different times, to the nanosecond.
func times(t *testing.T, top string) {
	t.Helper()
	n := int64(0)
	var names []string
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	for _, name := range slices.Backward(names) {
		n++
		ts := []unix.Timespec{{Sec: 1}, {Sec: 1600000000 + n, Nsec: 1000 + n}}
		err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A fact is what a copy must keep of a file.
type fact struct {
	Mode         uint32
	UID, GID     uint32
	Size, Blocks int64
	Sec, Nsec    int64
	Link         string
	Device       uint64
	Names        string // Of the files with the same inode.
	Contents     string
	Xattr        string
}

// facts describes a tree.
func facts(t *testing.T, top string) map[string]fact {
	t.Helper()
	all, inodes := map[string]fact{}, map[uint64][]string{}
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		f := fact{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec, Device: st.Rdev}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f.Size, f.Blocks, f.Contents = st.Size, st.Blocks, string(b)
			inodes[st.Ino] = append(inodes[st.Ino], name)
			f.Names = strconv.FormatUint(st.Ino, 10)
		case unix.S_IFLNK:
			f.Link, _ = os.Readlink(path)
		}
		value := make([]byte, 100)
		if n, err := unix.Lgetxattr(path, "user.test", value); err == nil {
			f.Xattr = string(value[:n])
		}
		all[name] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range inodes {
		for _, name := range names {
			f := all[name]
			f.Names = fmt.Sprint(names)
			all[name] = f
		}
	}
	return all
}

// same compares two trees.
func same(t *testing.T, got, want map[string]fact) {
	t.Helper()
	for name, w := range want {
		g, ok := got[name]
		g.Contents, w.Contents = "", ""
		if !ok || !reflect.DeepEqual(g, w) || got[name].Contents != want[name].Contents {
			t.Errorf("%q is %+v (%v), want %+v", name, g, ok, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q is not wanted", name)
		}
	}
}

func pack(t *testing.T, top string, how tree.Pack) ([]byte, *tree.Report) {
	t.Helper()
	p, err := tree.NewPacker(top, how)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	return b, &p.Report
}

func unpack(t *testing.T, top string, b []byte, how tree.Unpack) (*tree.Report, error) {
	t.Helper()
	u, err := tree.NewUnpacker(top, false, pax.NewReader(source(b)), how)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	err = u.Run()
	return &u.Report, err
}

// everything keeps all that it may.
func everything() (tree.Pack, tree.Unpack) {
	return tree.Pack{Xattrs: true, Links: true, Devices: true},
		tree.Unpack{Owners: os.Geteuid() == 0, Xattrs: true, Devices: true}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	from := make1(t)
	how, back := everything()
	if os.Geteuid() == 0 {
		err := errors.Join(unix.Mknod(from+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
			os.Lchown(from+"/d/link", 5, 6), os.Chown(from+"/z", 1<<22, 70000))
		if err != nil {
			t.Fatal(err)
		}
	}
	b, report := pack(t, from, how)
	if len(report.Problems) > 0 {
		t.Fatal(report.Problems)
	}
	for _, back.Sync = range []bool{false, true} {
		to := filepath.Join(t.TempDir(), "made/too")
		if r, err := unpack(t, to, b, back); err != nil || len(r.Problems) > 0 || r.Entries != report.Entries || r.Bytes != report.Bytes {
			t.Fatal(r, err, report)
		}
		same(t, facts(t, to), facts(t, from))
		_ = os.Chmod(to+"/d/e", 0o700)                                           // Only root writes into it otherwise.
		if r, err := unpack(t, to, b, back); err != nil || len(r.Problems) > 0 { // Over itself.
			t.Fatal(r, err)
		}
		same(t, facts(t, to), facts(t, from))
		_ = os.Chmod(to+"/d/e", 0o700)
	}
}

// names reads the names of an archive.
func names(t *testing.T, b []byte) (all []string) {
	t.Helper()
	r := pax.NewReader(source(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
}

// An archive can begin after each of its members.
func TestAfter(t *testing.T) {
	t.Parallel()
	from := make1(t)
	whole, _ := pack(t, from, tree.Pack{Devices: true})
	all := names(t, whole)
	for i, name := range all {
		b, _ := pack(t, from, tree.Pack{Devices: true, After: name})
		if got := names(t, b); !slices.Equal(got, all[i+1:]) {
			t.Errorf("after %q: %q, want %q", name, got, all[i+1:])
		}
	}
	for after, first := range map[string]string{"d/aa": "d/e", "d/zz": "fifo", "zz": "", "d/small/no": "d/special", "c": "d"} {
		b, _ := pack(t, from, tree.Pack{Devices: true, After: after})
		if got := append(names(t, b), ""); got[0] != first {
			t.Errorf("after %q comes %q, want %q", after, got[0], first)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	from := make1(t)
	for _, tt := range []struct {
		how  tree.Pack
		want []string
	}{
		{tree.Pack{Names: []string{"d/e", "d/small", "z"}}, []string{"d/e", "d/small", "z"}},
		{tree.Pack{Exclude: []string{"e", "s*", "d/n*", "fifo"}}, []string{".", "d", "d/link", "holes", "z"}},
		{tree.Pack{Exclude: []string{"d"}, Devices: true}, []string{".", "fifo", "holes", "z"}},
		{tree.Pack{Exclude: []string{"d"}, Bare: true}, []string{".", "holes", "z"}},
	} {
		b, _ := pack(t, from, tt.how)
		if got := names(t, b); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.how, got, tt.want)
		}
	}
	if _, err := tree.NewPacker(from, tree.Pack{Exclude: []string{"[", "x"}}); err == nil {
		t.Error("a pattern that is none was accepted")
	}
}

// What cannot be packed is reported, and the rest is packed.
func TestProblems(t *testing.T) {
	t.Parallel()
	from := make1(t)
	b, r := pack(t, from, tree.Pack{Names: []string{"missing", "z", "fifo"}})
	if got := names(t, b); !slices.Equal(got, []string{"z"}) || len(r.Problems) != 2 ||
		!errors.Is(r.Problems[0].Err, fs.ErrNotExist) || !errors.Is(r.Problems[1].Err, tree.ErrDevice) {
		t.Errorf("%q, %v", got, r.Problems)
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprint("missing", i)
	}
	if _, r = pack(t, from, tree.Pack{Names: many}); len(r.Problems) != 10 || r.More != 90 {
		t.Errorf("%d problems and %d more", len(r.Problems), r.More)
	}
}

// Files of other types stand in the way, or are replaced if that is wanted.
func TestReplace(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	for _, name := range []string{"file", "dir/x", "link/y"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(from+"/"+name), 0o755), os.WriteFile(from+"/"+name, []byte("new"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := pack(t, from, tree.Pack{})
	for _, replace := range []bool{false, true} {
		outside, to := t.TempDir(), t.TempDir()
		err := errors.Join(os.Mkdir(to+"/file", 0o755), os.WriteFile(to+"/dir", nil, 0o644), os.Symlink(outside, to+"/link"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := unpack(t, to, b, tree.Unpack{Replace: replace})
		if err != nil || replace && len(r.Problems) > 0 || !replace && len(r.Problems) != 5 {
			t.Errorf("replace %v: %v, %v", replace, r.Problems, err)
		}
		if there, err := os.ReadDir(outside); err != nil || len(there) > 0 {
			t.Errorf("replace %v: %v was written through a link", replace, there)
		}
	}
}

// A file that becomes shorter while it is packed has zeros in place of the rest.
func TestShrunkenFile(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	if err := os.WriteFile(from+"/f", bytes.Repeat([]byte("x"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := tree.NewPacker(from, tree.Pack{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b := make([]byte, 4096)
	if _, err := p.Read(b); err != nil { // The header has left.
		t.Fatal(err)
	}
	if err := os.Truncate(from+"/f", 100000); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(p)
	if err != nil || len(p.Report.Problems) != 1 {
		t.Fatal(err, p.Report.Problems)
	}
	to := t.TempDir()
	if r, err := unpack(t, to, slices.Concat(b, rest), tree.Unpack{}); err != nil || len(r.Problems) > 0 {
		t.Fatal(r, err)
	}
	if info, err := os.Stat(to + "/f"); err != nil || info.Size() != 1<<20 {
		t.Error(info, err)
	}
}

// Files of /proc have other sizes than they say.
func TestSizelessFiles(t *testing.T) {
	t.Parallel()
	b, r := pack(t, "/proc/self", tree.Pack{Names: []string{"status", "cmdline"}})
	to := t.TempDir()
	if got, err := unpack(t, to, b, tree.Unpack{}); err != nil || len(got.Problems)+len(r.Problems) > 0 {
		t.Fatal(got, err, r)
	}
	if data, err := os.ReadFile(to + "/status"); err != nil || !bytes.Contains(data, []byte("VmRSS")) {
		t.Errorf("%q, %v", data, err)
	}
}

// An archive that ends too early leaves complete files and no temporary ones.
func TestCut(t *testing.T) {
	t.Parallel()
	from := make1(t)
	b, _ := pack(t, from, tree.Pack{Links: true})
	whole := facts(t, from)
	for cut := 100; cut < len(b); cut += len(b) / 50 {
		to := t.TempDir()
		_, err := unpack(t, to, b[:cut], tree.Unpack{Sync: cut%2 == 0})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
		for name, f := range facts(t, to) {
			if strings.Contains(name, tree.TempPrefix) || f.Contents != whole[name].Contents {
				t.Errorf("cut after %d bytes: %q has %d bytes", cut, name, len(f.Contents))
			}
		}
		_ = os.Chmod(to+"/d/e", 0o700)
	}
}

// A batch gets its names also when it becomes full or old.
func TestBatches(t *testing.T) {
	t.Parallel()
	var b []byte
	const dirs, files = 150, 30
	for i := range dirs {
		for j := range files {
			h := &pax.Header{Name: fmt.Sprintf("d%d/f%d", i, j), Kind: pax.Regular, Mode: 0o644, Sec: time.Now().Unix()}
			if j == 7 {
				h.Kind, h.Link = pax.HardLink, fmt.Sprintf("d%d/f3", i)
			}
			b, _ = pax.AppendHeader(b, h)
		}
	}
	to := t.TempDir()
	if r, err := unpack(t, to, append(b, pax.End()...), tree.Unpack{Sync: true}); err != nil || len(r.Problems) > 0 {
		t.Fatal(r, err)
	}
	found, err := filepath.Glob(to + "/*/f*")
	if err != nil || len(found) != dirs*files {
		t.Errorf("%d files, %v", len(found), err)
	}
}
