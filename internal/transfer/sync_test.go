package transfer_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/transfer"
)

// lay makes files, and directories whose names end in a slash; a file with an arrow in its
// contents is a link.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if link, ok := strings.CutPrefix(text, "-> "); ok {
			err = errors.Join(err, os.Symlink(link, path))
		} else if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o644), os.Chtimes(path, then, then))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// found lists what lay makes.
func found(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case e.IsDir():
			all[name+"/"] = ""
		case e.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			all[name] = "-> " + link
			return err
		default:
			b, err := os.ReadFile(path)
			all[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// syncs plans a sync and does it.
func syncs(t *testing.T, s transfer.Sync, from, to string) (p *transfer.Plan, done *transfer.Progress, err error) {
	t.Helper()
	done = new(transfer.Progress)
	s.How = transfer.Tree
	p, err = s.Plan(t.Context(), end(from), end(to))
	if err != nil {
		return nil, done, err
	}
	err = p.Do(t.Context(), done)
	return p, done, errors.Join(err, p.Close())
}

func same(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := found(t, dir)
	for name := range want {
		for dir := filepath.Dir(strings.TrimSuffix(name, "/")); dir != "."; dir = filepath.Dir(dir) {
			want[dir+"/"] = ""
		}
	}
	for name, text := range want {
		if is, ok := got[name]; !ok || is != text {
			t.Errorf("%s is %q (%v), want %q", name, is, ok, text)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is there, too", name)
	}
}

// What each flag does with what the target has already.
func TestSync(t *testing.T) {
	source := map[string]string{"a": "new", "d/b": "b", "d/c": "-> b", "skip.o": "source", "d/skip.o": "source", "kind": "file"}
	target := map[string]string{"a": "older", "d/b": "b", "extra": "x", "gone/deep/f": "x", "gone/skip.o": "target", "skip.o": "kept target"}
	for _, tt := range []struct {
		name    string
		how     transfer.Sync
		more    map[string]string // In the target.
		want    map[string]string
		removed int64
	}{
		{"plain", transfer.Sync{}, nil, map[string]string{
			"a": "new", "d/b": "b", "d/c": "-> b", "skip.o": "source", "d/skip.o": "source", "kind": "file",
			"extra": "x", "gone/deep/f": "x", "gone/skip.o": "target",
		}, 0},
		{"exclude", transfer.Sync{Exclude: []string{"*.o"}}, nil, map[string]string{
			"a": "new", "d/b": "b", "d/c": "-> b", "skip.o": "kept target", "kind": "file",
			"extra": "x", "gone/deep/f": "x", "gone/skip.o": "target",
		}, 0},
		{"delete", transfer.Sync{Delete: true}, nil, source, 2},
		{"both", transfer.Sync{Delete: true, Exclude: []string{"*.o"}}, nil, map[string]string{
			"a": "new", "d/b": "b", "d/c": "-> b", "skip.o": "kept target", "kind": "file", "gone/skip.o": "target",
		}, 2},
		{"directory for a file", transfer.Sync{Delete: true}, map[string]string{"kind/x": "x", "d/c/y": "y"}, source, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			lay(t, from, source)
			lay(t, to, target)
			lay(t, to, tt.more)
			_, done, err := syncs(t, tt.how, from, to)
			if err != nil || done.Removed.Load() != tt.removed {
				t.Fatalf("%d removed, want %d: %v", done.Removed.Load(), tt.removed, err)
			}
			same(t, to, tt.want)
			p, done, err := syncs(t, tt.how, from, to)
			if err != nil || p.Files != 0 || len(p.Changes()) != 0 || done.Files.Load() != 0 {
				t.Errorf("again: %v, %v", p.Changes(), err)
			}
			if tt.how.Delete && tt.how.Exclude == nil && !slices.Equal(facts(t, from), facts(t, to)) {
				t.Errorf("the trees differ:\n%v\n%v", facts(t, from), facts(t, to))
			}
		})
	}
}

// A sync that may not do all does nothing, or removes nothing.
func TestSyncRefuses(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	lay(t, from, map[string]string{"a": "new", "kind": "file", "bad/x": "x"})
	lay(t, to, map[string]string{"kind/keep.o": "x", "extra": "x"})
	var refused *transfer.OverwriteError
	for _, s := range []transfer.Sync{{}, {Delete: true, Exclude: []string{"*.o"}}} {
		if _, _, err := syncs(t, s, from, to); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	same(t, to, map[string]string{"kind/keep.o": "x", "extra": "x"})

	lay(t, from, map[string]string{"\xff": "x"}) // By requests it cannot be copied.
	_, _, err := syncs(t, transfer.Sync{Delete: true}, from, to)
	if err == nil || !strings.Contains(err.Error(), "not removed") || found(t, to)["extra"] != "x" {
		t.Errorf("%v; the target has %v", err, found(t, to))
	}
	for want, s := range map[string]struct {
		from, to string
		exclude  []string
	}{
		"no directory":     {from + "/a", to, nil},
		"no such file":     {from + "/nothing", to, nil},
		"cannot overwrite": {from, to + "/a", nil},
		`exclude "["`:      {from, to, []string{"["}},
	} {
		if _, _, err := syncs(t, transfer.Sync{Exclude: s.exclude}, s.from, s.to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// No link in the target leads a removal out of it.
func TestSyncRemovesBelow(t *testing.T) {
	from, to, out := t.TempDir(), t.TempDir(), t.TempDir()
	lay(t, out, map[string]string{"mine/f": "x"})
	lay(t, from, map[string]string{"d/f": "x"})
	lay(t, to, map[string]string{"d": "-> " + out + "/mine", "other": "-> " + out})
	if _, _, err := syncs(t, transfer.Sync{Delete: true, Exclude: []string{"*.o"}}, from, to); err != nil {
		t.Fatal(err)
	}
	same(t, to, map[string]string{"d/f": "x"})
	same(t, out, map[string]string{"mine/f": "x"})
}

// A change of the same size in the same second is seen, and one during the copy is told.
func TestSyncSeesChanges(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	lay(t, from, map[string]string{"a": "one", "b": "two", "c": "3"})
	p, _, err := syncs(t, transfer.Sync{}, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := p.Changed(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("changed: %v, %v", names, err)
	}
	later := then.Add(time.Millisecond)
	err = errors.Join(os.Chtimes(filepath.Join(from, "a"), later, later), os.Remove(filepath.Join(from, "b")))
	names, changed := p.Changed(t.Context())
	if want := []string{filepath.Join(from, "a"), filepath.Join(from, "b")}; err != nil || changed != nil || !slices.Equal(names, want) {
		t.Errorf("changed: %v, %v, %v", names, err, changed)
	}
	err = os.Chtimes(filepath.Join(to, "a"), then.Add(1), then.Add(1))
	if p, _, failed := syncs(t, transfer.Sync{}, from, to); err != nil || failed != nil || p.Files != 1 {
		t.Errorf("%d files, %v, %v", p.Files, err, failed)
	}
}
