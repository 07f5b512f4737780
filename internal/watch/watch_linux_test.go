package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

// begun is a watcher of a directory.
func begun(t *testing.T, dir string, how Options) *Watcher {
	t.Helper()
	w, err := New(how)
	must(t, err)
	t.Cleanup(w.Release)
	must(t, w.Begin(dir))
	if got := taken(t, w, 1); got[0] != "y ." {
		t.Fatalf("the first event is %q", got)
	}
	return w
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// taken waits for n events, and returns all that are there then. The end is an event "EOF".
func taken(t *testing.T, w *Watcher, n int) (all []string) {
	t.Helper()
	var unread []byte
	b := make([]byte, 100)
	for {
		m, err := w.Take(b)
		unread = append(unread, b[:m]...)
		for {
			e, rest, ok, err := wire.ParseWatchEvent(unread)
			must(t, err)
			if !ok {
				break
			}
			unread = rest
			s := string(e.Kind) + " " + e.Name
			if e.Kind == wire.WatchRename {
				s += " from " + e.Old
			}
			if e.Dir && e.Name != "." {
				s += "/"
			}
			all = append(all, s)
		}
		switch {
		case errors.Is(err, io.EOF):
			return append(all, "EOF")
		case err != nil:
			t.Fatal(err)
		case m > 0:
		case len(all) >= n:
			return all
		default:
			must(t, w.Wait())
		}
	}
}

func expect(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	if got := taken(t, w, len(want)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Each change has its events, and renames have both names.
func TestEvents(t *testing.T) {
	t.Parallel()
	top, out := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	must(t, os.MkdirAll(at("d/e"), 0o755), os.WriteFile(at("d/e/f"), nil, 0o644), os.WriteFile(at("old"), nil, 0o644))
	w := begun(t, top, Options{Recursive: true, Exclude: []string{"*.o", "d/skip"}})
	must(t, os.WriteFile(at("d/e/f"), []byte("x"), 0o644))
	expect(t, w, "m d/e/f", "w d/e/f")
	must(t, os.Chmod(at("old"), 0o600), os.Rename(at("old"), at("d/new")))
	expect(t, w, "a old", "r d/new from old")
	must(t, os.WriteFile(at("x.o"), nil, 0o644), os.Mkdir(at("d/skip"), 0o755), os.Rename(at("x.o"), at("x")), os.Rename(at("x"), at("y.o")))
	expect(t, w, "c x", "d x")
	must(t, os.Rename(at("d/e"), at("e")), os.Remove(at("e/f")))
	expect(t, w, "r e from d/e/", "d e/f")
	must(t, os.Rename(at("e"), filepath.Join(out, "e")), os.WriteFile(filepath.Join(out, "e/g"), nil, 0o644), os.Remove(at("d/new")))
	expect(t, w, "d e/", "d d/new")
	must(t, os.WriteFile(filepath.Join(out, "e/h"), nil, 0o644), os.Rename(filepath.Join(out, "e"), at("back")))
	got := taken(t, w, 3)
	if slices.Sort(got); !slices.Equal(got, []string{"c back/", "c back/g", "c back/h"}) {
		t.Errorf("moved in: %q", got)
	}
	must(t, os.WriteFile(at("back/g"), []byte("x"), 0o644))
	expect(t, w, "m back/g", "w back/g")
	must(t, os.Rename(top, top+"2"))
	t.Cleanup(func() { _ = os.RemoveAll(top + "2") })
	expect(t, w, "g .", "EOF")
}

// Without Recursive only the directory itself is watched; a file can be watched too.
func TestOneDirectory(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	must(t, os.Mkdir(top+"/d", 0o755), os.WriteFile(top+"/f", nil, 0o644))
	w, file := begun(t, top, Options{}), begun(t, top+"/f", Options{Recursive: true})
	must(t, os.WriteFile(top+"/d/a", nil, 0o644), os.WriteFile(top+"/f", []byte("x"), 0o644))
	expect(t, w, "m f", "w f")
	expect(t, file, "m .", "w .")
	must(t, os.Remove(top+"/f"))
	got := taken(t, file, 2)
	if !slices.Equal(got, []string{"a .", "g .", "EOF"}) {
		t.Errorf("%q", got)
	}
}

// Nothing that is made in a new directory is missed, however soon it is made.
func TestNewDirectories(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	w := begun(t, top, Options{Recursive: true})
	made := map[string]bool{}
	done := make(chan error, 1)
	const dirs = 300
	for i := range dirs {
		made[fmt.Sprintf("a%d/b/c/f", i)] = true
	}
	go func() {
		for i := range dirs {
			dir := filepath.Join(top, fmt.Sprintf("a%d/b/c", i))
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/f", nil, 0o644)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for len(made) > 0 {
		for _, e := range taken(t, w, 1) {
			if strings.HasPrefix(e, "o ") {
				t.Fatal("the queue of this kernel is too short (fs.inotify.max_queued_events)")
			}
			delete(made, strings.TrimPrefix(e, "c "))
		}
	}
	must(t, <-done)
}

// An overflow is told after all directories are watched again.
func TestOverflow(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	w := begun(t, top, Options{Recursive: true})
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	var most int
	_, err = fmt.Sscan(string(b), &most)
	must(t, err)
	must(t, os.WriteFile(top+"/0", nil, 0o644), os.WriteFile(top+"/1", nil, 0o644))
	for i := range most + 100 { // The kernel keeps one of equal events in a row.
		must(t, os.Chmod(fmt.Sprint(top, "/", i%2), 0o600))
	}
	must(t, os.MkdirAll(top+"/late/below", 0o755))
	got := taken(t, w, most)
	if last := got[len(got)-1]; last != "o ." {
		t.Fatalf("%d events, the last is %q", len(got), last)
	}
	must(t, os.WriteFile(top+"/late/below/f", nil, 0o644))
	expect(t, w, "c late/below/f", "w late/below/f")
}

// A link is not followed below the top, and errors name what is wrong.
func TestLinksAndErrors(t *testing.T) {
	t.Parallel()
	top, out := t.TempDir(), t.TempDir()
	must(t, os.Symlink(out, top+"/link"))
	w := begun(t, top, Options{Recursive: true})
	must(t, os.WriteFile(out+"/f", nil, 0o644), os.Symlink(out, top+"/second"), os.WriteFile(out+"/g", nil, 0o644))
	expect(t, w, "c second")
	if _, err := New(Options{Exclude: []string{"["}}); err == nil || !strings.Contains(err.Error(), `exclude "["`) {
		t.Errorf("%v", err)
	}
	none, err := New(Options{})
	must(t, err)
	defer none.Release()
	if err := none.Begin(top + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	w.Close()
	if err := w.Wait(); err == nil {
		t.Error("a closed one waits")
	}
}
