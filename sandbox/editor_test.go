package sandbox_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/sandbox"
)

// seen is how long a change of the host may stay unseen: the second of virtiofsd's
// cache=auto, and what a loaded host adds.
const seen = 1200 * time.Millisecond

// long reports whether the trials of this file run for minutes instead of seconds.
func long() bool { return os.Getenv("AGENTD_LONG") == "1" }

func orLong(short, whole int) int {
	if long() {
		return whole
	}
	return short
}

// An editor on this host and programs in the machine work in one directory. Both see
// the same after each of the other's turns, and the same as a directory in which all
// of it was done on this host alone: no write is lost.
func TestEditorsDay(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			d := newDay(t, kernel, seed)
			const turn = 10
			for done := 0; done < orLong(40, 1000) && !t.Failed(); done += turn {
				d.turn(t, turn)
			}
		})
	}
}

// A day is one directory that is shared, and its copy that is not.
type day struct {
	m            *sandbox.Machine
	shared, copy string
	random       *rand.Rand
	inGuest      bool // Whose turn it is.
}

func newDay(t *testing.T, kernel string, seed uint64) *day {
	t.Helper()
	d := &day{shared: t.TempDir(), copy: t.TempDir(), random: rand.New(rand.NewPCG(seed, 1))}
	d.m = start(t, sandbox.Config{Kernel: kernel, Mounts: []sandbox.Mount{{Source: d.shared, Target: "/m"}}})
	return d
}

// turn lets one side change the directory, and compares what all see.
func (d *day) turn(t *testing.T, operations int) {
	t.Helper()
	var script strings.Builder
	for range operations {
		script.WriteString(d.operation() + "\n")
	}
	onHost(t, d.copy, script.String())
	if d.inGuest {
		say(t, d.m, "umask 022; cd /m || exit\n"+script.String())
	} else {
		onHost(t, d.shared, script.String())
	}
	time.Sleep(seen) // What is promised is a time, and no event.
	want := onHost(t, d.copy, view)
	if got := onHost(t, d.shared, view); got != want {
		t.Errorf("the host sees\n%s\nwant\n%s\nafter, in the guest: %t\n%s", got, want, d.inGuest, script.String())
	}
	if got := say(t, d.m, "cd /m || exit\n"+view); got != want {
		t.Errorf("the guest sees\n%s\nwant\n%s\nafter, in the guest: %t\n%s", got, want, d.inGuest, script.String())
	}
	d.inGuest = !d.inGuest
}

// view prints kinds, modes, sizes, names and contents.
const view = `find . ! -name . | sort | while read -r f; do
	stat -c '%A %n' "$f"
	[ -d "$f" ] || { stat -c %s "$f"; sha256sum <"$f"; }
done`

func onHost(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "umask 022\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// operation is one change as a line for sh: the same on each side.
func (d *day) operation() string {
	const files, dirs = 12, 3
	f := fmt.Sprintf("f%d", d.random.IntN(files))
	if d.random.IntN(3) == 0 {
		f = fmt.Sprintf("d%d/%s", d.random.IntN(dirs), f)
	}
	other := fmt.Sprintf("f%d", d.random.IntN(files))
	text := fmt.Sprintf("%d %s", d.random.IntN(1e9), strings.Repeat("text ", d.random.IntN(1500)))
	number := strconv.Itoa(d.random.IntN(100))
	return "mkdir -p d0 d1 d2; " + strings.NewReplacer("FILE", f, "OTHER", other, "TEXT", text, "NUMBER", number).Replace([]string{
		"echo 'TEXT' >FILE",
		"echo 'TEXT' >.new; mv -f .new FILE",
		"[ ! -e FILE ] || truncate -s NUMBER FILE",
		"[ ! -e FILE ] || chmod 6$((NUMBER % 8))$((NUMBER / 2 % 8)) FILE",
		"rm -f FILE",
		"echo 'TEXT' >>FILE",
		"printf '#!/bin/sh\\nexit NUMBER\\n' >.new; chmod 755 .new; mv -f .new FILE; ./FILE; [ $? = NUMBER ] || exit 1",
		"[ ! -e FILE ] || [ FILE -ef OTHER ] || mv -f FILE OTHER",
		"[ ! -e OTHER ] || [ OTHER -ef FILE ] || { ln -f OTHER .link && mv -f .link FILE; }", // mv refuses two names of one file.
		"rm -rf d1; mkdir d1",
	}[d.random.IntN(10)])
}

// Programs of one layout take each other's place in memory, which is short, while
// the host replaces them. QEMU's emulation must not run the one that was there before.
func TestChangingPrograms(t *testing.T) {
	for _, kernel := range kernels(t) {
		t.Run(kernel, func(t *testing.T) {
			const programs, memory, hog = 64, 192, 64
			dir := t.TempDir()
			guestProgram(t, dir, "runner")
			for n := range programs {
				replaceProgram(t, dir, n)
			}
			m := start(t, sandbox.Config{
				Kernel: kernel, CPUs: 2, MemoryMiB: memory, Mounts: []sandbox.Mount{{Source: dir, Target: "/m"}},
			})
			stop, replaced := make(chan struct{}), make(chan int)
			go func() { replaced <- replaceAll(t, dir, programs, stop) }()
			runs := orLong(200, 10_000)
			got, err := m.Client().Command("/m/runner", "/m", strconv.Itoa(programs), strconv.Itoa(runs), strconv.Itoa(hog)).CombinedOutput()
			close(stop)
			t.Logf("%d programs replaced meanwhile", <-replaced)
			if want := fmt.Sprintf("runs=%d wrong=0\n", runs); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}

func replaceAll(t *testing.T, dir string, programs int, stop chan struct{}) (n int) {
	t.Helper()
	for {
		select {
		case <-stop:
			return n
		case <-time.After(2 * time.Millisecond):
			replaceProgram(t, dir, n%programs)
			n++
		}
	}
}

// replaceProgram puts another program of the same number in its place.
func replaceProgram(t *testing.T, dir string, n int) {
	t.Helper()
	early := filepath.Join(dir, ".new")
	if err := os.WriteFile(early, numberProgram(n), 0o755); err != nil {
		t.Error(err)
	}
	if err := os.Rename(early, filepath.Join(dir, "p"+strconv.Itoa(n))); err != nil {
		t.Error(err)
	}
}

// numberProgram is a program that ends with n. Each of its four pages of code adds a
// part of it, which is chosen anew each time: with a page of another program, or of
// its own earlier form, it ends with another number.
func numberProgram(n int) []byte {
	const page, pages, base = 4096, 4, 0x400000
	b := make([]byte, page*(1+pages))
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	for _, f := range []struct {
		at    int
		value uint64
		size  int
	}{
		{16, 2, 2},
		{18, 62, 2},
		{20, 1, 4},
		{24, base + page, 8},
		{32, 64, 8}, // ET_EXEC, EM_X86_64, entry, headers.
		{52, 64, 2},
		{54, 56, 2},
		{56, 1, 2},
		{64, 1, 4},
		{68, 5, 4},
		{80, base, 8},
		{88, base, 8},
		{96, uint64(len(b)), 8},
		{104, uint64(len(b)), 8},
		{112, page, 8}, // PT_LOAD, r-x.
	} {
		var v [8]byte
		le.PutUint64(v[:], f.value)
		copy(b[f.at:f.at+f.size], v[:])
	}
	left := uint32(n)
	for i := range pages {
		part := rand.Uint32()
		if i == pages-1 {
			part = left
		}
		left -= part
		code := append([]byte{0x81, 0xc7}, le.AppendUint32(nil, part)...) // add edi, part
		if i == 0 {
			code = append([]byte{0x31, 0xff}, code...) // xor edi, edi
		}
		if i < pages-1 {
			code = append(code, 0xe9)
			code = le.AppendUint32(code, uint32(page-len(code)-4)) // jmp to the next page
		} else {
			code = append(code, 0xb8, 60, 0, 0, 0, 0x0f, 0x05) // exit(edi)
		}
		copy(b[page*(1+i):], code)
	}
	return b
}
