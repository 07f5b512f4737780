package vmm

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	program := writeScript(t, "exit 0")
	for _, c := range []struct {
		name, env string
		find      func() (string, error)
		pkg       string
	}{
		{"qemu", EnvQEMU, findHostQEMU, hostBoard(t).debian},
		{"virtiofsd", EnvVirtiofsd, FindVirtiofsd, "qemu-system-common"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(c.env, program)
			if got, err := c.find(); got != program || err != nil {
				t.Errorf("got %s, %v", got, err)
			}
			t.Setenv(c.env, "/nowhere")
			if got, err := c.find(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), c.env) {
				t.Errorf("a wrong %s: got %s, %v", c.env, got, err)
			}
		})
	}
	t.Setenv(EnvQEMU, "")
	t.Setenv("PATH", t.TempDir())
	_, err := findHostQEMU()
	if missing, ok := errors.AsType[*MissingError](err); !ok || !strings.Contains(missing.Fix, "Debian package "+hostBoard(t).debian) {
		t.Errorf("nothing installed: %v", err)
	}
}

func findHostQEMU() (string, error) { return FindQEMU("") }

func hostBoard(t *testing.T) *board {
	t.Helper()
	b, err := boardOf("")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each architecture has a QEMU of its own, and a variable that names it.
func TestFindForeignQEMU(t *testing.T) {
	foreign := Architectures()[1]
	b := boards[foreign]
	t.Setenv("PATH", t.TempDir())
	t.Setenv(EnvQEMU, writeScript(t, "exit 0"))
	_, err := FindQEMU(foreign)
	if missing, ok := errors.AsType[*MissingError](err); !ok || !strings.Contains(err.Error(), b.emulator) || !strings.Contains(missing.Fix, b.debian) {
		t.Errorf("nothing for %s is installed: %v", foreign, err)
	}
	program := writeScript(t, "exit 0")
	t.Setenv(b.variable, program)
	if got, err := FindQEMU(foreign); got != program || err != nil {
		t.Errorf("%s: got %s, %v", b.variable, got, err)
	}
	if _, err := FindQEMU("riscv64"); err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("an unknown architecture: %v", err)
	}
}

func TestHasRootMount(t *testing.T) {
	const proc = "22 27 0:21 / /proc rw - proc none rw\n"
	if !hasRootMount(proc+"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n") || hasRootMount(proc) {
		t.Error(`only the second line has "/" as its mount point`)
	}
}

func TestHasRange(t *testing.T) {
	const file = "tester:100000:65536\n1002:165536:65536\n"
	for _, c := range []struct {
		name, uid string
		want      bool
	}{{"tester", "1001", true}, {"other", "1002", true}, {"test", "100", false}, {"", "", false}} {
		if got := hasRange(file, c.name, c.uid); got != c.want {
			t.Errorf("hasRange(%s, %s) = %v", c.name, c.uid, got)
		}
	}
	if err := missingRange("/etc/subuid", "me"); !strings.Contains(err.Error(), "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 me") {
		t.Error(err)
	}
}

func TestSocketDirIsShort(t *testing.T) {
	short := t.TempDir()
	long := filepath.Join(short, strings.Repeat("d", 90))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ base, want string }{{"", "/tmp"}, {"/nowhere", "/tmp"}, {long, "/tmp"}, {short, short}} {
		t.Setenv("XDG_RUNTIME_DIR", c.base)
		dir, err := socketDir()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil || filepath.Dir(dir) != c.want {
			t.Errorf("XDG_RUNTIME_DIR=%s: got %s, %v", c.base, dir, err)
		}
	}
}

// What unshare(1) does in a chroot: it fails, and a child that it has started
// waits for ever with the output open. This one holds a fifo too, whose end tells
// of the child's.
func TestProbeIDMapOutlivesALeftChild(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	life, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = life.Close() }()
	script := "#!/bin/sh\nexec 3>" + fifo + "\nsleep 1000 &\necho refused >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "unshare"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if err := probeIDMap(t.Context(), hostFacts{}); err == nil {
		t.Fatal("the probe says that it can")
	}
	if err := life.SetReadDeadline(time.Now().Add(probeTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := life.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the child is still there: %v", err)
	}
}

func TestChrootHint(t *testing.T) {
	if got := chrootHint(hostFacts{rootIsMount: true}); got != "" {
		t.Errorf("outside of a chroot: %q", got)
	}
	if got := chrootHint(hostFacts{}); !strings.Contains(got, "pivot_root") {
		t.Errorf("in a chroot: %q", got)
	}
}
