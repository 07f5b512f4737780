package boot

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// The init of System V is told runlevel 6 if it listens, and nobody waits for one
// that does not.
func TestTelInit(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "initctl")
	if err := telInit(pipe); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a pipe: %v", err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := telInit(pipe); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("without an init: %v", err)
	}
	init, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = init.Close() }()
	if err := telInit(pipe); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, initRequest)
	if _, err := io.ReadFull(init, got); err != nil {
		t.Fatal(err)
	}
	want, _ := hex.DecodeString("69190903" + "01000000" + "36000000") // Little endian, as the machines that have such an init.
	if !bytes.HasPrefix(got, want) || len(bytes.Trim(got[len(want):], "\x00")) != 0 {
		t.Errorf("told %x", got)
	}
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := telInit(plain); err == nil {
		t.Error("a file was taken for a pipe")
	}
}

func pinned() *sys.Root { return sys.InheritRoot(0) }

// What one process has to take down another can, but for the kernel's own.
func TestRemains(t *testing.T) {
	lines := []string{"mount:/.msb", "pin:", "pin:/data"}
	m, err := Inherit(lines, pinned)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.undo) != len(lines) || m.undo[2].target != "/data" || m.undo[1].target != "" {
		t.Errorf("inherited %v", m.undo)
	}
	m.undo = append(m.undo, undo{target: "/proc", kernel: true})
	if got, _ := m.Remains(); len(got) != len(lines) {
		t.Errorf("remains %q", got)
	}
	if _, err := Inherit([]string{"x"}, pinned); err == nil {
		t.Error("a line of no form was taken")
	}
}
