package snapshot_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
)

// savedMachine makes a snapshot of a machine with one disk that it writes to and one that
// it does not.
func savedMachine(t *testing.T, dir string) error {
	t.Helper()
	own := t.TempDir()
	upper, lower := filepath.Join(own, "upper"), filepath.Join(own, "lower")
	writeSparse(t, upper)
	if err := os.WriteFile(lower, []byte("lower"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := snapshot.Begin(dir)
	if err != nil {
		return err
	}
	state, err := k.State()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.WriteString("memory and devices"); err != nil {
		t.Fatal(err)
	}
	m := snapshot.Machine{
		Kind: snapshot.Snapshot, Made: time.Now(), Owner: json.RawMessage(`{"a":1}`),
		VM:    vmm.Machine{Disks: []vmm.Disk{{Path: lower, ReadOnly: true}, {Path: upper}}},
		Disks: []snapshot.Disk{{File: "disk0", ReadOnly: true}, {File: "disk1"}},
	}
	err = errors.Join(state.Close(), snapshot.LinkDisk(k.Path("disk0"), lower), snapshot.CopyDisk(k.Path("disk1"), upper))
	if err != nil {
		t.Fatal(err)
	}
	return k.Commit(m)
}

func writeSparse(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("far away"), 64*mib+5000)
	if err = errors.Join(err, f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func open(dir string) error {
	m, err := snapshot.ReadMachine(dir)
	if err != nil {
		return err
	}
	state, err := m.OpenFiles(dir)
	if err != nil {
		return err
	}
	return state.Close()
}

func TestMachine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	if err := savedMachine(t, dir); err != nil {
		t.Fatal(err)
	}
	if err := open(dir); err != nil {
		t.Fatal(err)
	}
	if err := savedMachine(t, dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second of that name: %v", err)
	}
	copied, err := os.ReadFile(filepath.Join(dir, "disk1"))
	if err != nil || !bytes.Equal(copied[64*mib+5000:][:8], []byte("far away")) || len(copied) != 1<<30 {
		t.Errorf("the copy has %d bytes, %v", len(copied), err)
	}
	if err := snapshot.Discard(dir); err != nil {
		t.Fatal(err)
	}
	if err := open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Every change of a file is noticed, and the error says which file it is.
func TestChangedMachines(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"state": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "state"), []byte("memory and DEVICES"), 0o600)
		},
		"state: 3": func(dir string) error {
			return os.Truncate(filepath.Join(dir, "state"), 3)
		},
		"disk0": func(dir string) error { return os.Remove(filepath.Join(dir, "disk0")) },
		"disk1": func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, "disk1"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{1}, 512*mib)
			return errors.Join(err, f.Close())
		},
		"manifest.json":   func(dir string) error { return os.Truncate(filepath.Join(dir, "manifest.json"), 20) },
		"format 7":        edit("\"format\": 1", "\"format\": 7"),
		"kind \"odd\"":    edit("\"kind\": \"snapshot\"", "\"kind\": \"odd\""),
		"file \"../etc\"": edit("\"file\": \"disk1\"", "\"file\": \"../etc\""),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			if err := errors.Join(savedMachine(t, dir), change(dir)); err != nil {
				t.Fatal(err)
			}
			err := open(dir)
			if damaged, ok := errors.AsType[*snapshot.DamagedError](err); !ok || !strings.Contains(damaged.Error(), name) {
				t.Errorf("%v: want a damaged %s", err, name)
			}
		})
	}
}

// edit changes the manifest.
func edit(old, text string) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, "manifest.json")
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.ReplaceAll(b, []byte(old), []byte(text)), 0o600)
	}
}

// Holes are not part of a disk's digest.
func TestDigestWithoutHoles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	if err := savedMachine(t, dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "disk1"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 3*mib), 60*mib) // Zeros that take room.
	if err := errors.Join(err, f.Close(), open(dir)); err != nil {
		t.Error(err)
	}
}

// An interrupted maker leaves nothing that counts, and one that is at work is left alone.
func TestInterruptedSaving(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "s")
	if err := os.MkdirAll(filepath.Join(dir+".tmp", "left"), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := snapshot.Begin(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Begin(dir); !errors.Is(err, snapshot.ErrBusy) {
		t.Errorf("two makers: %v", err)
	}
	snapshot.Sweep(top)
	if _, err := os.Stat(k.Path("")); err != nil {
		t.Errorf("a maker at work: %v", err)
	}
	k.Abort()
	if err := os.Mkdir(dir+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	snapshot.Sweep(top)
	if left, _ := os.ReadDir(top); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A disk of the machine's own that was changed fits its memory no more.
func TestChangedPlace(t *testing.T) {
	top := t.TempDir()
	upper := filepath.Join(top, "upper")
	writeSparse(t, upper)
	d, err := snapshot.InPlace(upper, false)
	if err != nil {
		t.Fatal(err)
	}
	m := snapshot.Machine{Kind: snapshot.Pause, VM: vmm.Machine{Disks: []vmm.Disk{{Path: upper}}}, Disks: []snapshot.Disk{d}}
	dir := filepath.Join(top, "p")
	k, err := snapshot.Begin(dir)
	if err != nil {
		t.Fatal(err)
	}
	state, err := k.State()
	if err = errors.Join(err, state.Close(), k.Commit(m)); err != nil {
		t.Fatal(err)
	}
	if err := open(dir); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(upper, later, later); err != nil {
		t.Fatal(err)
	}
	if err := open(dir); err == nil || !strings.Contains(err.Error(), "changed or replaced") {
		t.Error(err)
	}
}

func TestHostCheck(t *testing.T) {
	h := snapshot.Host{QEMU: "7.2.22", Processor: "EPYC", Kernel: "abc", TSCkHz: 2_500_000}
	for name, here := range map[string]snapshot.Host{
		"QEMU":          {QEMU: "10.0.13"},
		"the processor": {Processor: "Xeon"},
		"the kernel":    {Kernel: "abd"},
		"kHz":           {TSCkHz: 2_510_000},
	} {
		if err := h.Check(here); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.Check(snapshot.Host{QEMU: "7.2.22", TSCkHz: 2_500_900}); err != nil {
		t.Error(err)
	}
}
