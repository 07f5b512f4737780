package proc

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// What is absent is remembered only where the directory's times cannot hide that it
// came, and not when it is there.
func TestAbsences(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "program")
	a := absences{root: sys.Device(dir)}
	look := func(name string, want error) {
		t.Helper()
		if err := a.check(name); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	look(name, syscall.ENOENT)
	if len(a.known) > 0 {
		t.Error("an absence from a directory that was just changed is remembered")
	}
	put(t, name)
	look(name, nil)
	look(name+"/file", syscall.ENOTDIR)
	look(filepath.Join(dir, "no", "such"), syscall.ENOENT)
	link := filepath.Join(dir, "link")
	if err := errors.Join(os.Remove(name), os.Symlink("target", link)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settled + 100*time.Millisecond) // Only the kernel sets the time of a change.
	other := absences{root: a.root + 1}
	if err := other.check(name); !errors.Is(err, syscall.ENOENT) || len(other.known) > 0 {
		t.Errorf("on a device that is not the root's: %v, and %d remembered", err, len(other.known))
	}
	look(name, syscall.ENOENT)
	look(link, nil)
	if _, ok := a.known[name]; !ok || len(a.known) != 1 {
		t.Errorf("remembered are %v, want only %s", a.known, name)
	}
	look(name, syscall.ENOENT)
	put(t, name)
	look(name, nil)
}

// A remembered absence is asked for again after a while, since a directory's times
// may be old themselves.
func TestAbsencesEnd(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "program")
	id, err := sys.Identify(dir)
	if err != nil {
		t.Fatal(err)
	}
	var a absences
	a.note(name, absence{id, time.Now().Add(-believed)})
	if a.knows(name, id) {
		t.Error("an old absence is believed")
	}
	a.note(name, absence{id, time.Now()})
	if !a.knows(name, id) {
		t.Error("a fresh absence is not believed")
	}
	for i := range 2 * maxAbsences {
		a.note(filepath.Join(name, string(rune('a'+i))), absence{id, time.Now()})
	}
	if len(a.known) > maxAbsences {
		t.Errorf("%d absences are remembered", len(a.known))
	}
}

func put(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
