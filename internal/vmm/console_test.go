package vmm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTailKeepsTheEnd(t *testing.T) {
	for _, chunk := range []int{1, 3, 7, 10, 25, 100} {
		tl := newTail(10)
		var all []byte
		for i := range 20 {
			p := bytes.Repeat([]byte{byte('a' + i)}, chunk)
			if n, err := tl.Write(p); n != len(p) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			all = append(all, p...)
			if want := all[max(0, len(all)-10):]; !bytes.Equal(tl.Bytes(), want) {
				t.Fatalf("chunks of %d: got %q, want %q", chunk, tl.Bytes(), want)
			}
		}
		if cap(tl.buf) > 64 {
			t.Errorf("chunks of %d: %d bytes held for a tail of 10", chunk, cap(tl.buf))
		}
	}
}

func TestConsoleFileKeepsBothEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		total int
		note  string
	}{
		{"fits", consoleFile, ""},
		{"a byte more", consoleFile + 1, "\n[0 bytes left out]\n"},
		{"for ever", 3 * consoleFile, "\n[8323072 bytes left out]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "console")
			con, err := newConsole(Options{ConsoleFile: path})
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat("0123456789\n", c.total/11+1)[:c.total]
			con.pump(io.NopCloser(strings.NewReader(text)))
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := text
			if over := c.total - consoleFile; over > 0 {
				want = text[:consoleFile] + c.note + text[c.total-min(over, consoleTail):]
			}
			if string(got) != want {
				t.Errorf("%d bytes that end in %q, want %d", len(got), got[max(0, len(got)-40):], len(want))
			}
			if string(con.tail.Bytes()) != text[c.total-consoleTail:] {
				t.Error("the tail is not the end of the text")
			}
		})
	}
}

// brokenTap takes one write.
type brokenTap struct{ calls int }

func (b *brokenTap) Write([]byte) (int, error) {
	b.calls++
	return 0, errors.New("broken")
}

func TestConsoleSurvivesItsTap(t *testing.T) {
	tap := new(brokenTap)
	con, err := newConsole(Options{Console: tap})
	if err != nil {
		t.Fatal(err)
	}
	con.take([]byte("one "))
	con.take([]byte("two"))
	if tap.calls != 1 || string(con.tail.Bytes()) != "one two" {
		t.Errorf("%d writes to a broken tap, tail %q", tap.calls, con.tail.Bytes())
	}
}

func TestExitErrorOfAHeldDisk(t *testing.T) {
	e := &ExitError{
		Err: errors.New("exit status 1"), Command: "qemu",
		Output: "qemu: -blockdev driver=raw: Failed to get \"write\" lock\nIs another process using the image [/data/a.img]?\n",
	}
	if want := "disk /data/a.img: another machine or program has it open; several can only read it"; e.Error() != want {
		t.Errorf("got %q", e.Error())
	}
}

func TestExitErrorShowsTheEnd(t *testing.T) {
	e := &ExitError{
		Err:     os.ErrDeadlineExceeded,
		Output:  "bad option\n",
		Console: strings.Repeat("early\r\n", 50) + strings.Repeat("late\r\n", consoleLines),
		Command: "qemu -x\n",
	}
	got := e.Error()
	want := "qemu: i/o timeout\noutput:\n  bad option\nend of the console:\n" +
		strings.Repeat("  late\n", consoleLines) + "to repeat it by hand:\n  qemu -x"
	if got != want || !errors.Is(e, os.ErrDeadlineExceeded) || e.Code() != -1 {
		t.Errorf("got %q, code %d", got, e.Code())
	}
}
