package sys_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
)

// An unnamed file is really unnamed, wherever it is made.
func TestTempFile(t *testing.T) {
	dirs := map[string]string{"temporary": t.TempDir(), "memory": "/dev/shm"}
	for name, dir := range dirs {
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			f, err := sys.TempFile(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if _, err := f.WriteAt([]byte("text"), 10); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4)
			if _, err := f.ReadAt(b, 10); err != nil || string(b) != "text" {
				t.Errorf("got %q, %v", b, err)
			}
			if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
				t.Errorf("%v was left, %v", after, err)
			}
		})
	}
	if _, err := sys.TempFile(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
}

// Our ends of pipes wait in the poller, so a deadline and a close end the waiting.
func TestPipes(t *testing.T) {
	input := func() (ours, theirs *os.File, err error) {
		in, end, err := sys.InputPipe()
		if err != nil {
			return nil, nil, err
		}
		ours, err = in.File()
		return ours, os.NewFile(end.Fd(), "pipe"), err
	}
	for name, open := range map[string]func() (*os.File, *os.File, error){"read": sys.ReadPipe, "write": input} {
		t.Run(name, func(t *testing.T) {
			ours, theirs, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = theirs.Close() }()
			op := ours.Read
			if name == "write" {
				op = ours.Write
			}
			if err := ours.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatalf("our end is not in the poller: %v", err)
			}
			if _, err := op(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if err := ours.SetDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			waiting := make(chan error)
			go func() {
				_, err := op(make([]byte, 1<<20))
				waiting <- err
			}()
			runtime.Gosched()
			if err := ours.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-waiting; !errors.Is(err, os.ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
	}
	ours, theirs, err := sys.ReadPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(ours); err != nil || string(b) != "text" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestLimit(t *testing.T) {
	nstest.Run(t, func() {
		const nofile = 7
		if err := sys.SetLimit(nofile, 100, 200); err != nil {
			t.Fatal(err)
		}
		if soft, hard, err := sys.Limit(nofile); soft != 100 || hard != 200 || err != nil {
			t.Errorf("got %d, %d, %v", soft, hard, err)
		}
		if err := sys.SetLimit(nofile, 200, 100); err == nil {
			t.Error("soft above hard was taken")
		}
		if _, _, err := sys.Limit(99); err == nil {
			t.Error("resource 99 exists")
		}
	})
}

// What the file system itself says of a refused mount is in the error.
func TestMountError(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		root, err := sys.OpenRoot("/")
		if err != nil {
			t.Fatal(err)
		}
		_, err = root.MountOnce(sys.Mount{Source: "x", Type: "tmpfs", Target: "/mnt", Data: "size=1m,mode=999"})
		failed, ok := errors.AsType[*sys.MountError](err)
		if !ok || failed.Log != "tmpfs: Bad value for 'mode'" {
			t.Errorf("got %+v", err)
		}
		for i, want := range []bool{true, false} {
			if got, err := root.MountOnce(sys.Mount{Source: "x", Type: "tmpfs", Target: "/mnt", Flags: sys.NoDev | sys.ReadOnly, Data: "size=1m"}); got != want || err != nil {
				t.Errorf("mount %d: %t, %v", i, got, err)
			}
		}
		if err := os.WriteFile("/mnt/f", nil, 0o644); err == nil {
			t.Error("the read-only mount was written to")
		}
		if err := errors.Join(sys.Unmount("/mnt", false), root.Close()); err != nil {
			t.Error(err)
		}
		if err := sys.Unmount("/mnt", false); err == nil {
			t.Error("unmounted twice")
		}
	})
}
