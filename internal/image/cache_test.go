package image

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestOpenPlaces(t *testing.T) {
	own, xdg, home := t.TempDir(), t.TempDir(), t.TempDir()
	for _, c := range []struct{ own, xdg, want string }{
		{own, xdg, own},
		{"", xdg, filepath.Join(xdg, "agentctl")},
		{"", "relative", filepath.Join(home, ".cache", "agentctl")},
		{"", "", filepath.Join(home, ".cache", "agentctl")},
	} {
		t.Setenv(CacheVariable, c.own)
		t.Setenv("XDG_CACHE_HOME", c.xdg)
		t.Setenv("HOME", home)
		if got, err := Open(""); err != nil || got.Path() != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

// Many at once: each builds, one wins, all get a whole entry.
func TestDirRace(t *testing.T) {
	c := openCache(t)
	var all sync.WaitGroup
	var inside sync.WaitGroup
	inside.Add(8)
	for range 8 {
		all.Go(func() {
			dir, err := c.Dir("kind", "key", func(dir string) error {
				inside.Done()
				inside.Wait() // Nobody finishes before everybody has begun.
				return os.WriteFile(filepath.Join(dir, "f"), []byte("whole"), 0o600)
			})
			b, rerr := os.ReadFile(filepath.Join(dir, "f"))
			if err := errors.Join(err, rerr); err != nil || string(b) != "whole" {
				t.Errorf("%s: %q, %v", dir, b, err)
			}
		})
	}
	all.Wait()
	if left, _ := filepath.Glob(filepath.Join(c.dir, "tmp", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDirFailure(t *testing.T) {
	c := openCache(t)
	cause := errors.New("cause")
	if _, err := c.Dir("kernels", "key", func(string) error { return cause }); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	checkNoRest(t, c)
	for _, key := range []string{"", "../x", "/x"} {
		if dir, err := c.Dir("kernels", key, func(string) error { return nil }); err == nil {
			t.Errorf("key %q: %s", key, dir)
		}
	}
}

func TestOpenSweeps(t *testing.T) {
	c := openCache(t)
	old, fresh := filepath.Join(c.temporary(), "old"), filepath.Join(c.temporary(), "fresh")
	writeFile(t, filepath.Join(old, "f"), nil)
	writeFile(t, filepath.Join(fresh, "f"), nil)
	then := time.Now().Add(-2 * staleAfter)
	must(t, os.Chtimes(old, then, then))
	_, err := Open(c.dir)
	must(t, err)
	if exists(old) || !exists(fresh) {
		t.Errorf("old is there: %t, fresh is there: %t", exists(old), exists(fresh))
	}
}

func TestKeysDiffer(t *testing.T) {
	a, b := newKeyer("r"), newKeyer("r")
	a.add([]byte("ab"))
	a.add([]byte("c"))
	b.add([]byte("a"))
	b.add([]byte("bc"))
	if a.key() == b.key() {
		t.Error("two lists of inputs have one key")
	}
}
