package boot

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
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

// Masks of signals as the kernel writes them: of a shell with a trap of signal 39 (bit
// 38) and SIGTERM, and of one that waits for 39 with it blocked.
func TestHasSignal(t *testing.T) {
	const traps = "Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000004\nSigCgt:\t0000004000004002\n"
	const waits = "SigBlk:\t0000004000000000\nSigCgt:\t0000000000000000\n"
	for _, tt := range []struct {
		status, mask string
		signal       int
		want         bool
	}{
		{traps, "SigCgt:", 39, true},
		{traps, "SigCgt:", 15, true},
		{traps, "SigCgt:", 38, false},
		{traps, "SigBlk:", 39, false},
		{traps, "SigIgn:", 3, true},
		{waits, "SigBlk:", 39, true},
		{waits, "SigCgt:", 39, false},
		{"", "SigCgt:", 39, false},
		{"SigCgt:\tx\n", "SigCgt:", 1, false},
	} {
		if got := hasSignal(tt.status, tt.mask, tt.signal); got != tt.want {
			t.Errorf("signal %d in %s of %q: %t", tt.signal, tt.mask, tt.status, got)
		}
	}
}

// An init that nobody knows hears the signal of the reference agents first, and
// SIGTERM only if it does not begin to end the machine.
func TestAskAnyInit(t *testing.T) {
	nstest.Run(t, func() { // Where this program is PID 1, and Go's runtime handles every signal.
		nstest.Root(t)
		told := make(chan os.Signal, 8)
		signal.Notify(told, syscall.Signal(referenceEnd), syscall.SIGTERM)
		began := make(chan struct{})
		close(began)
		for _, tt := range []struct {
			heard chan struct{}
			want  []os.Signal
		}{
			{make(chan struct{}), []os.Signal{syscall.Signal(referenceEnd), syscall.SIGTERM}},
			{began, []os.Signal{syscall.Signal(referenceEnd)}},
		} {
			if what, err := AskInit(tt.heard); err != nil || !strings.HasSuffix(what, "by signal 39") {
				t.Fatalf("asked %q, %v", what, err)
			}
			var got []os.Signal
			for late := time.After(scriptGrace + time.Second); len(got) < 8; {
				select {
				case s := <-told:
					got = append(got, s)
					continue
				case <-late:
				}
				break
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("it heard %v, want %v", got, tt.want)
			}
		}
	})
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
