package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
)

const mib = 1 << 20

// fill writes a memory of 2 MiB, of which one page is not zeros, and a state.
func fill(_ context.Context, s vmm.Saved) error {
	page := make([]byte, 4096)
	if _, err := s.Memory.WriteAt(make([]byte, 2*mib), 0); err != nil {
		return err
	}
	page[7] = 1
	if _, err := s.Memory.WriteAt(page, mib); err != nil {
		return err
	}
	freed := bytes.Repeat([]byte{0xcc}, mib/2)
	if _, err := s.Memory.WriteAt(freed, mib/2); err != nil {
		return err
	}
	_, err := s.State.WriteString("devices")
	return err
}

func manifest(key string) snapshot.Manifest {
	return snapshot.Manifest{Key: key, CPUs: 1, MemoryMiB: 2, TSCkHz: 2_500_000}
}

// made is a directory with one template.
func made(t *testing.T, key string) (snapshot.Templates, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "templates")
	all := snapshot.At(dir)
	if err := all.Make(t.Context(), manifest(key), fill); err != nil {
		t.Fatal(err)
	}
	return all, dir
}

func TestTemplate(t *testing.T) {
	all, dir := made(t, "key")
	s, err := all.Use("key")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if m := s.Manifest; m.Kind != snapshot.Template || m.Key != "key" || m.TSCkHz != 2_500_000 || m.Memory.Size != 2*mib {
		t.Errorf("manifest %+v", m)
	}
	b := make([]byte, 8)
	if _, err := s.Files.Memory.ReadAt(b, mib); err != nil || b[7] != 1 {
		t.Errorf("memory %v, %v", b, err)
	}
	list, err := all.List()
	if err != nil || len(list) != 1 || list[0].Bytes == 0 || list[0].Bytes >= mib/4 {
		t.Errorf("listed %+v, %v: pages of nothing take room", list, err)
	}
	info, err := os.Stat(filepath.Join(dir, "key", "mem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("memory is for others: %v, %v", info.Mode(), err)
	}
	if err := all.Remove("key"); err != nil {
		t.Error(err)
	}
	if _, err := all.Use("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a template that was removed: %v", err)
	}
}

// What is not as it was made is refused, and goes away.
func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir, other string) error
		want   string
	}{
		"memory gone":  {func(d, _ string) error { return os.Remove(filepath.Join(d, "mem")) }, "mem: no such file"},
		"memory cut":   {func(d, _ string) error { return os.Truncate(filepath.Join(d, "mem"), mib) }, "not the file that was made: 1048576 bytes"},
		"other memory": {func(d, other string) error { return replace(filepath.Join(other, "mem"), filepath.Join(d, "mem")) }, "not the file that was made"},
		"memory changed": {func(d, _ string) error {
			return overwrite(filepath.Join(d, "mem"), "changed")
		}, "not the file that was made"},
		"state gone":     {func(d, _ string) error { return os.Remove(filepath.Join(d, "state")) }, "state: no such file"},
		"state cut":      {func(d, _ string) error { return os.Truncate(filepath.Join(d, "state"), 3) }, "state: 3 bytes"},
		"state changed":  {func(d, _ string) error { return overwrite(filepath.Join(d, "state"), "DEVICES") }, "with the digest"},
		"no manifest":    {func(d, _ string) error { return os.Remove(filepath.Join(d, "manifest.json")) }, "manifest.json: no such file"},
		"empty manifest": {func(d, _ string) error { return os.Truncate(filepath.Join(d, "manifest.json"), 0) }, "manifest.json: unexpected end"},
		"another format": {func(d, _ string) error {
			return os.WriteFile(filepath.Join(d, "manifest.json"), []byte(`{"format": 2}`), 0o600)
		}, "format 2: this version reads 1"},
		"another's place": {func(d, other string) error {
			return errors.Join(os.RemoveAll(d), os.Rename(other, d))
		}, "it has the key other"},
	} {
		t.Run(name, func(t *testing.T) {
			all, dir := made(t, "key")
			_, other := made(t, "other")
			if err := c.damage(filepath.Join(dir, "key"), filepath.Join(other, "other")); err != nil {
				t.Fatal(err)
			}
			_, err := all.Use("key")
			if _, damaged := errors.AsType[*snapshot.DamagedError](err); !damaged || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := all.Use("key"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the damaged one is still there: %v", err)
			}
			if err := all.Make(t.Context(), manifest("key"), fill); err != nil {
				t.Errorf("the next is not made: %v", err)
			}
		})
	}
}

func overwrite(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func replace(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(to), os.WriteFile(to, b, 0o600))
}

// One makes a template; the others do not wait.
func TestOneMaker(t *testing.T) {
	all := snapshot.At(t.TempDir())
	err := all.Make(t.Context(), manifest("a"), func(ctx context.Context, s vmm.Saved) error {
		for _, key := range []string{"a", "b"} {
			if err := all.Make(ctx, manifest(key), fill); !errors.Is(err, snapshot.ErrBusy) {
				t.Errorf("a second maker of %s: %v", key, err)
			}
		}
		if list, err := all.List(); err != nil || len(list) != 0 {
			t.Errorf("one that is being made is listed: %v, %v", list, err)
		}
		return fill(ctx, s)
	})
	if err != nil {
		t.Fatal(err)
	}
	unused := func(context.Context, vmm.Saved) error { return errors.New("made twice") }
	if err := all.Make(t.Context(), manifest("a"), unused); err != nil {
		t.Error(err)
	}
}

// A failure leaves nothing, and is not repeated at once; an interrupted start is none.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	all := snapshot.At(dir)
	ctx, cancel := context.WithCancel(t.Context())
	broken := func(context.Context, vmm.Saved) error { return errors.New("boom") }
	cancel()
	if err := all.Make(ctx, manifest("key"), broken); err == nil {
		t.Error("it was made")
	}
	if _, err := all.Use("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after an interrupted start: %v", err)
	}
	if err := all.Make(t.Context(), manifest("key"), broken); err == nil {
		t.Error("it was made")
	}
	_, err := all.Use("key")
	if failed, ok := errors.AsType[*snapshot.FailedError](err); !ok || failed.Why != "boom" {
		t.Errorf("after a failure: %v", err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "key.failed"), old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := all.Use("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("long after a failure: %v", err)
	}
	if err := all.Make(t.Context(), manifest("key"), fill); err != nil {
		t.Error(err)
	}
	if err := all.Refuse("key", errors.New("mute")); err != nil {
		t.Error(err)
	}
	if _, err := all.Use("key"); err == nil || !strings.Contains(err.Error(), "mute") {
		t.Errorf("one that was refused: %v", err)
	}
	names(t, dir, "key.failed", "lock")
	if _, err := all.Prune(time.Now().Add(time.Second)); err != nil {
		t.Error(err)
	}
	names(t, dir, "lock")
}

func names(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

// Killed at any moment, a maker leaves what is whole or what is not listed.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("SNAPSHOT_MAKER"); dir != "" {
		for all := snapshot.At(dir); ; {
			err := all.Make(t.Context(), manifest("key"), fill)
			if err = errors.Join(err, all.Remove("key")); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	all := snapshot.At(dir)
	for range 25 {
		maker := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		maker.Env = append(os.Environ(), "SNAPSHOT_MAKER="+dir)
		if err := maker.Start(); err != nil {
			t.Fatal(err)
		}
		awaitFile(t, dir)
		<-time.After(time.Duration(rand.IntN(int(20 * time.Millisecond))))
		_ = maker.Process.Kill()
		_ = maker.Wait()
		list, err := all.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			s, err := all.Use(e.Key)
			if err != nil {
				t.Fatalf("one that is listed: %v", err)
			}
			_ = s.Close()
		}
		if err := errors.Join(all.Make(t.Context(), manifest("next"), fill), all.Remove("next"), all.Remove("key")); err != nil {
			t.Fatal(err)
		}
		names(t, dir, "lock")
	}
}

// awaitFile waits until something lies in the directory beside the lock.
func awaitFile(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 1 {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Fatal("the maker makes nothing")
}

// What a maker leaves that is killed is not listed, and the next one removes it.
func TestKilledMaker(t *testing.T) {
	dir := t.TempDir()
	early := filepath.Join(dir, "key.tmp")
	if err := errors.Join(os.Mkdir(early, 0o700), os.WriteFile(filepath.Join(early, "mem"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	all := snapshot.At(dir)
	if list, err := all.List(); err != nil || len(list) != 0 {
		t.Errorf("listed: %v, %v", list, err)
	}
	if _, err := all.Use("key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("used: %v", err)
	}
	if err := all.Make(t.Context(), manifest("other"), fill); err != nil {
		t.Error(err)
	}
	names(t, dir, "lock", "other")
}

// The least recently used go first.
func TestBound(t *testing.T) {
	dir := t.TempDir()
	all := snapshot.At(dir)
	for i := range 17 {
		key := fmt.Sprintf("key%02d", i)
		if err := all.Make(t.Context(), manifest(key), fill); err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(filepath.Join(dir, key), used, used); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		s, err := all.Use("key00")
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
	list, err := all.List()
	if err != nil || len(list) != 16 || list[0].Key != "key02" || list[15].Key != "key00" {
		t.Errorf("left: %d, from %s to %s, %v", len(list), list[0].Key, list[len(list)-1].Key, err)
	}
}

// Only what is not used goes, with what a killed maker has left; a maker at work keeps
// its files.
func TestPrune(t *testing.T) {
	all, dir := made(t, "old")
	if err := all.Make(t.Context(), manifest("young"), fill); err != nil {
		t.Fatal(err)
	}
	day := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "old"), day, day); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-time.Hour)
	if unused, err := all.Unused(since); err != nil || len(unused) != 1 || unused[0].Key != "old" {
		t.Errorf("unused: %+v, %v", unused, err)
	}
	if gone, err := all.Prune(since); err != nil || len(gone) != 1 || gone[0].Key != "old" || gone[0].Bytes == 0 {
		t.Errorf("removed: %+v, %v", gone, err)
	}
	names(t, dir, "lock", "young")
	err := all.Make(t.Context(), manifest("next"), func(ctx context.Context, s vmm.Saved) error {
		_, err := all.Prune(since)
		names(t, dir, "lock", "next.tmp", "young")
		return errors.Join(err, fill(ctx, s))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "killed.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	// One of another version has a key that is never looked for.
	if err := os.Mkdir(filepath.Join(dir, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "other"), day, day); err != nil {
		t.Fatal(err)
	}
	if _, err := all.Prune(since); err != nil {
		t.Error(err)
	}
	names(t, dir, "lock", "next", "young")
	if gone, err := snapshot.At(filepath.Join(dir, "none")).Prune(since); err != nil || len(gone) > 0 {
		t.Errorf("where there is none: %v, %v", gone, err)
	}
}
