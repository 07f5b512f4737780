package vmm

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStartOf(t *testing.T) {
	rest := " 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9"
	for _, test := range []struct {
		stat  string
		start uint64
		fails bool
	}{
		{"7 (sh) S" + rest, 4711, false},
		{"7 (a) S 1 2) R" + rest, 4711, false},
		{"7 (qemu-system-x86) Z" + rest, 0, true},
		{"7 (qemu-system-x86) X" + rest, 0, true},
		{"7 (sh) S 1 1", 0, true},
		{"", 0, true},
	} {
		start, err := startOf(test.stat)
		if start != test.start || (err != nil) != test.fails {
			t.Errorf("%q: %d, %v", test.stat, start, err)
		}
	}
}

// A number that is used again is another process's.
func TestProcessID(t *testing.T) {
	id, err := identify(os.Getpid())
	if err != nil || !id.runs() {
		t.Fatalf("%+v does not run: %v", id, err)
	}
	for _, other := range []ProcessID{
		{id.PID, id.Start + 1, id.Boot}, {id.PID, id.Start, "another boot"}, {os.Getppid(), id.Start, id.Boot}, {1 << 30, 1, id.Boot},
	} {
		if other.runs() {
			t.Errorf("%+v runs", other)
		}
		if p, err := adoptProcess("x", other, "", nil); err == nil {
			p.release()
			t.Errorf("%+v is adopted", other)
		}
	}
}

// A process that was left to us is watched, and signaled, by more than its number.
func TestAdoptProcess(t *testing.T) {
	id := stranger(t, "read line")
	why := errors.New("a reason")
	judged := make(chan struct{})
	p, err := adoptProcess("x", id, "", judged)
	if err != nil {
		t.Fatal(err)
	}
	p.verdict = func() error { return why }
	close(judged)
	if p.ended(50 * time.Millisecond) {
		t.Fatal("it has ended")
	}
	p.stop(0)
	if !p.ended(killWait) || !errors.Is(p.err, why) {
		t.Errorf("it has not ended, or by %v", p.err)
	}
	if id.runs() {
		t.Errorf("%+v runs", id)
	}
	p.terminate() // A process that has ended gets no signal.
	p.release()
}

// stranger starts a process whose parent is not this test's.
func stranger(t *testing.T, script string) ProcessID {
	t.Helper()
	in, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), keep.Close() })
	c := exec.Command("sh", "-c", `sh -c 'echo $$; exec >&- 2>&-; `+script+`' <&3 &`)
	c.ExtraFiles = []*os.File{in}
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A lasting process writes without a reader, never blocks, and the next reader gets what
// the pipe holds.
func TestOutlet(t *testing.T) {
	dir := t.TempDir()
	n := newNursery(dir)
	t.Cleanup(n.stop)
	p, err := n.start("x", []string{"sh", "-c", "echo first; head -c 1000000 /dev/zero 2>/dev/null | tr '\\0' x >&2; echo last >&2; exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	if !p.ended(killWait) || p.cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("it ended by %v", p.err)
	}
	if got := p.output.Bytes(); len(got) == 0 {
		t.Error("no output")
	}
	path := outputPath(dir, 7)
	out, err := outlet(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	written := 0
	for err == nil {
		var m int
		m, err = syscall.Write(int(out.Fd()), []byte(strings.Repeat("y", 4096)))
		written += max(m, 0)
	}
	if !errors.Is(err, syscall.EAGAIN) || written < 4096 {
		t.Errorf("%d bytes written, then %v", written, err)
	}
	next := newProcess("next")
	if err := next.drain(path); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(killWait); len(next.output.Bytes()) < min(written, stderrTail); {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes came", len(next.output.Bytes()))
		}
		time.Sleep(time.Millisecond)
	}
}
