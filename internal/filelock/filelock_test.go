//go:build unix

package filelock_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/agentd-go/agentd/internal/filelock"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // A test may have closed it.
	return f
}

func lock(t *testing.T, how func(*os.File) error, f *os.File, want error) {
	t.Helper()
	if err := how(f); !errors.Is(err, want) {
		t.Errorf("locked with %v, want %v", err, want)
	}
}

// A lock excludes other open files of the same process too, and ends with its file.
func TestLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	a, b, c := open(t, path), open(t, path), open(t, path)
	lock(t, filelock.Take, a, nil)
	lock(t, filelock.Take, b, filelock.ErrHeld)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	lock(t, filelock.Share, b, nil)
	lock(t, filelock.Share, c, nil)
	lock(t, filelock.Take, open(t, path), filelock.ErrHeld)
	if err := errors.Join(b.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	lock(t, filelock.Take, open(t, path), nil)
}
