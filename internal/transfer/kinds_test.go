package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/transfer"
)

// makeAll makes files: a name with a slash at its end is a directory, one with "->" a link,
// one with "|" a pipe.
func makeAll(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, spec := range names {
		name, link, isLink := strings.Cut(spec, "->")
		path := filepath.Join(dir, name)
		var err error
		switch {
		case isLink:
			err = os.Symlink(link, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasSuffix(name, "|"):
			err = syscall.Mkfifo(strings.TrimSuffix(path, "|"), 0o600)
		default:
			err = os.WriteFile(path, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A directory never replaces another type of file, nor the reverse, at the top or
// below. Nothing is copied then.
func TestOverwrite(t *testing.T) {
	for _, tt := range []struct{ from, to []string }{
		{[]string{"x/"}, []string{"x"}},
		{[]string{"x/"}, []string{"x->/etc"}},
		{[]string{"x/"}, []string{"x|"}},
		{[]string{"x"}, []string{"x/"}},
		{[]string{"x->a"}, []string{"x/"}},
		{[]string{"x"}, []string{"x|"}},
		{[]string{"d/", "d/x/", "d/x/y"}, []string{"d/", "d/x"}},
		{[]string{"d/", "d/x"}, []string{"d/", "d/x/"}},
	} {
		from, to := t.TempDir(), t.TempDir()
		makeAll(t, from, append([]string{"a"}, tt.from...)...)
		makeAll(t, to, tt.to...)
		before := facts(t, to)
		var refused *transfer.OverwriteError
		if _, err := transfer.New(t.Context(), end(from+"/."), end(to), transfer.Tree); !errors.As(err, &refused) {
			t.Errorf("%v over %v: %v", tt.from, tt.to, err)
		}
		if after := facts(t, to); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("%v over %v changed\n%v to\n%v", tt.from, tt.to, before, after)
		}
		// The same where the name is the copy's own.
		top := filepath.Join(from, strings.Trim(strings.SplitN(tt.from[0], "->", 2)[0], "/|"))
		if _, err := transfer.New(t.Context(), end(top), end(to), transfer.Tree); !errors.As(err, &refused) {
			t.Errorf("%v over %v, at the top: %v", tt.from, tt.to, err)
		}
	}
}

// What is no file, directory or link is left out of a tree with a line, and is an error
// where it is all that was to be copied.
func TestOddSources(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	makeAll(t, from, "a", "pipe|")
	if p := run(t, from+"/.", to); len(p.Odd) != 1 {
		t.Errorf("left out: %v", p.Odd)
	}
	if _, err := transfer.New(t.Context(), end(from+"/pipe"), end(to), transfer.Tree); err == nil {
		t.Error("a pipe alone is no error")
	}
	var b bytes.Buffer
	var lines []string
	if err := transfer.WriteTar(t.Context(), &b, end(from), func(line string) { lines = append(lines, line) }); err != nil || len(lines) != 1 {
		t.Errorf("as an archive: %v, %q", err, lines)
	}
}

// A name that no request can hold is reported, and everything else is copied.
func TestNamesThatAreNoText(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	makeAll(t, from, "a", "bad\xff", "d/", "d/b", "shown\ufffd", "bad\xfe/", "bad\xfe/c")
	p, err := transfer.New(t.Context(), end(from+"/."), end(to), transfer.Tree)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Do(t.Context(), new(transfer.Progress))
	if err == nil || strings.Count(err.Error(), "not UTF-8") != 3 {
		t.Errorf("copied with %v", err)
	}
	for _, name := range []string{"a", "d/b"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			t.Error(err)
		}
	}
	var b bytes.Buffer
	if err := transfer.WriteTar(t.Context(), &b, end(from+"/."), quiet(t)); err == nil || !bytes.Contains(b.Bytes(), []byte("d/b")) {
		t.Errorf("as an archive: %v", err)
	}
	if err := transfer.ReadTar(t.Context(), end(filepath.Join(to, "again")), &b, quiet(t)); err != nil {
		t.Errorf("the archive of the rest: %v", err)
	}
}

// A directory that cannot be listed does not keep the others from being copied.
func TestUnreadableDirectory(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	makeAll(t, from, "a", "d/", "d/b", "closed/")
	side := closedSide{name: "closed"}
	p, err := transfer.New(t.Context(), transfer.End{Side: side, Name: from + "/."}, end(to), transfer.Tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), new(transfer.Progress)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("copied with %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "d", "b")); err != nil {
		t.Error(err)
	}
}

// closedSide has a directory that cannot be listed.
type closedSide struct {
	transfer.Host
	name string
}

func (s closedSide) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	if filepath.Base(name) == s.name {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrPermission}
	}
	return s.Host.ReadDir(ctx, name)
}

// shortSide ends its files early, without an error.
type shortSide struct{ transfer.Host }

type shortFile struct {
	transfer.Reader
	part io.Reader
}

func (f shortFile) Read(p []byte) (int, error) { return f.part.Read(p) }

func (s shortSide) Open(ctx context.Context, name string) (transfer.Reader, error) {
	f, err := s.Host.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return shortFile{f, io.LimitReader(f, 10)}, nil
}

// A file that ends before its size is no copy, and has no name at the target.
func TestShortFile(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	makeAll(t, from, "short", "a file with a long name")
	p, err := transfer.New(t.Context(), transfer.End{Side: shortSide{}, Name: from + "/."}, end(to), transfer.Tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Do(t.Context(), new(transfer.Progress)); err == nil || !strings.Contains(err.Error(), "ended after 10 of 23 bytes") {
		t.Errorf("copied with %v", err)
	}
	left, err := os.ReadDir(to)
	if err != nil || len(left) != 1 || left[0].Name() != "short" {
		t.Errorf("at the target: %v, %v", left, err)
	}
}

// A device or pipe at the target receives the bytes and is not replaced.
func TestWriteThrough(t *testing.T) {
	dir := t.TempDir()
	makeAll(t, dir, "a file", "pipe|")
	got := make(chan string)
	go func() {
		b, err := os.ReadFile(filepath.Join(dir, "pipe"))
		got <- string(b) + errorText(err)
	}()
	run(t, filepath.Join(dir, "a file"), filepath.Join(dir, "pipe"))
	if s := <-got; s != "a file" {
		t.Errorf("the pipe gave %q", s)
	}
	if info, err := os.Lstat(filepath.Join(dir, "pipe")); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the pipe is %v, %v", info, err)
	}
}

func errorText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// archive makes a tar archive of members, each with its name as content.
func archive(t *testing.T, members ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range members {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An archive that is cut anywhere is an error, between two members too, and no member
// is there in part.
func TestCutArchives(t *testing.T) {
	whole := archive(t, tar.Header{Name: "first", Typeflag: tar.TypeReg}, tar.Header{Name: "second", Typeflag: tar.TypeReg})
	const end2 = 4 * 512 // Two heads, two contents; then the end.
	for cut := 0; cut <= len(whole); cut += 64 {
		to := t.TempDir()
		err := transfer.ReadTar(t.Context(), end(to), bytes.NewReader(whole[:cut]), quiet(t))
		if (err == nil) != (cut == end2+512 || cut == len(whole)) {
			t.Fatalf("cut after %d of %d bytes: %v", cut, len(whole), err)
		}
		for _, name := range []string{"first", "second"} {
			if b, err := os.ReadFile(filepath.Join(to, name)); err == nil && string(b) != name {
				t.Fatalf("cut after %d bytes: %s has %q", cut, name, b)
			}
		}
	}
}

// Second names are kept, and what cannot be made is left out with a line.
func TestArchiveKinds(t *testing.T) {
	to := t.TempDir()
	var lines []string
	b := archive(t,
		tar.Header{Name: "a", Typeflag: tar.TypeReg},
		tar.Header{Name: "d/second", Typeflag: tar.TypeLink, Linkname: "a"},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo},
		tar.Header{Name: "z", Typeflag: tar.TypeReg},
	)
	padded := io.MultiReader(bytes.NewReader(b), bytes.NewReader(make([]byte, 8<<10)))
	if err := transfer.ReadTar(t.Context(), end(to), padded, func(l string) { lines = append(lines, l) }); err != nil || len(lines) != 1 {
		t.Fatalf("%v, %q", err, lines)
	}
	if rest, err := io.ReadAll(padded); err != nil || len(rest) > 0 {
		t.Errorf("%d bytes after the end are left to whoever writes them, %v", len(rest), err)
	}
	first, err := os.Stat(filepath.Join(to, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := os.Stat(filepath.Join(to, "d", "second")); err != nil || !os.SameFile(first, second) {
		t.Errorf("the second name: %v, %v", second, err)
	}
	if _, err := os.Stat(filepath.Join(to, "z")); err != nil {
		t.Error(err)
	}
}
