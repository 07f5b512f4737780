package machines

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A machine of a test has a directory and no record.
func inDirectory(t *testing.T) *Machine {
	t.Helper()
	return &Machine{dir: t.TempDir()}
}

func opened(t *testing.T, m *Machine) *outputLog {
	t.Helper()
	o, err := openOutput(m.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.close() })
	seconds := 0
	o.now = func() time.Time {
		seconds++
		return time.Unix(int64(seconds), 0)
	}
	return o
}

// said writes pieces; those that begin with ! are stderr's.
func said(o *outputLog, pieces ...string) {
	for _, p := range pieces {
		text, stderr := strings.CutPrefix(p, "!")
		_ = o.take(stderr, []byte(text)) // It never fails.
	}
}

// read returns the result of a query: entries as STREAM SECOND TEXT, with | for the end
// of a line.
func read(t *testing.T, m *Machine, q LogQuery) (all []string) {
	t.Helper()
	err := m.ReadOutput(t.Context(), q, func(e Entry) error {
		end := "|"
		if e.Partial {
			end = ""
		}
		all = append(all, fmt.Sprintf("%s %d %s%s", e.Stream[3:], e.Time.Unix(), e.Text, end))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOutputQueries(t *testing.T) {
	m := inDirectory(t)
	said(opened(t, m), "a\n", "!b\nc", "d", "!\n", "e\nf\n", "g")
	for name, c := range map[string]struct {
		q    LogQuery
		want string
	}{
		"pieces": {LogQuery{Tail: -1}, "out 1 a|,err 2 b|,err 2 c,out 3 d,err 4 |,out 5 e|,out 5 f|,out 6 g"},
		"lines":  {LogQuery{Tail: -1, Lines: true}, "out 1 a|,err 2 b|,err 2 c|,out 3 de|,out 5 f|,out 6 g"},
		"tail":   {LogQuery{Tail: 2}, "out 5 f|,out 6 g"},
		"none":   {LogQuery{Tail: 0}, ""},
		"more":   {LogQuery{Tail: 100}, "out 1 a|,err 2 b|,err 2 c|,out 3 de|,out 5 f|,out 6 g"},
		"since":  {LogQuery{Tail: -1, Since: time.Unix(5, 0)}, "out 5 e|,out 5 f|,out 6 g"},
		"until":  {LogQuery{Tail: -1, Until: time.Unix(2, 0)}, "out 1 a|,err 2 b|,err 2 c"},
	} {
		if got := strings.Join(read(t, m, c.q), ","); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// Output of an older agentctl has neither streams nor times, and lines may look like
// ours.
func TestOutputOfOlderVersions(t *testing.T) {
	m := inDirectory(t)
	old := "plain\n2026-01-02T03:04:05.000000000Z stdout X no\n"
	if err := os.WriteFile(m.Output(), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	got := ""
	if err := m.ReadOutput(t.Context(), LogQuery{Tail: -1}, func(e Entry) error {
		got += string(e.Text) + "\n"
		return nil
	}); err != nil || got != old {
		t.Errorf("got %q, %v", got, err)
	}
}

// Two files hold the last of it, whatever is printed, and a reader that follows loses
// nothing while they change places.
func TestOutputRotates(t *testing.T) {
	m := inDirectory(t)
	o := opened(t, m)
	o.most = 2000
	r := &outputReader{path: m.Output()}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	var got, want []string
	r.lines.Each = func(line []byte) error {
		got = append(got, string(parseEntry(line).Text))
		return nil
	}
	for i := range 500 {
		text := strings.Repeat("x", i%40) + strconv.Itoa(i)
		said(o, text+"\n")
		want = append(want, text)
		if i%20 == 0 {
			if err := r.read(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.read(); err != nil || !slices.Equal(got, want) {
		t.Errorf("a follower got %d lines, %v, want %d", len(got), err, len(want))
	}
	kept := read(t, m, LogQuery{Tail: -1})
	if last := kept[len(kept)-1]; len(kept) < 20 || !strings.HasSuffix(last, "499|") {
		t.Errorf("kept %d lines, the last is %s", len(kept), last)
	}
	for _, name := range []string{m.Output(), m.Output() + olderSuffix} {
		if info, err := os.Stat(name); err != nil || info.Size() > o.most {
			t.Errorf("%s: %v, %v", filepath.Base(name), info, err)
		}
	}
}

// A long line is stored in pieces, and a reader of lines gets it whole.
func TestOutputLongLine(t *testing.T) {
	m := inDirectory(t)
	long := strings.Repeat("0123456789", 5000)
	said(opened(t, m), long+"\nnext\n")
	got := read(t, m, LogQuery{Tail: -1, Lines: true})
	if len(got) != 2 || got[0] != "out 1 "+long+"|" {
		t.Errorf("got %d lines", len(got))
	}
}

// A line that a killed supervisor has not written to its end is cut off, and what
// follows is read.
func TestOutputAfterKill(t *testing.T) {
	for _, torn := range []string{"", "2026-01-02T03:04:05.0000", "2026-01-02T03:04:05.000000000Z stdout F hal"} {
		m := inDirectory(t)
		whole := Entry{time.Unix(7, 0), Stdout, false, []byte("whole"), nil}.append(nil)
		if err := os.WriteFile(m.Output(), append(whole, torn...), 0o600); err != nil {
			t.Fatal(err)
		}
		said(opened(t, m), "next\n")
		if got := strings.Join(read(t, m, LogQuery{Tail: -1}), ","); got != "out 7 whole|,out 1 next|" {
			t.Errorf("%q: got %s", torn, got)
		}
	}
}

// On a full disk output is lost and the loss is reported; the lines before and after it
// stay whole.
func TestOutputOnFullDisk(t *testing.T) {
	m := inDirectory(t)
	o := opened(t, m)
	said(o, "before\n")
	good := o.f
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	defer func() { _ = full.Close() }()
	o.f = full
	said(o, "lost\n", "!too\n")
	o.f = good
	said(o, "after\n")
	const lost = "err 4 agentctl: 9 bytes of output are lost here: no space left on device"
	got := read(t, m, LogQuery{Tail: -1})
	if len(got) != 3 || got[0] != "out 1 before|" || !strings.HasPrefix(got[1], lost) || got[2] != "out 4 after|" {
		t.Errorf("got %q", got)
	}
}

// Where the state cannot be written at the end of a life, the life has it.
func TestLastWord(t *testing.T) {
	m := inDirectory(t)
	m.record.Name = "m"
	life, err := take(m.file(lifeName))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	l := &Live{machine: m, life: life, log: func(line string) { said = line }}
	if err := reserve(life); err != nil {
		t.Fatal(err)
	}
	l.state = State{Phase: Running, PID: os.Getpid()}
	if err := l.say(); err != nil {
		t.Fatal(err)
	}
	// No file can be made there, as on a full disk.
	if err := os.Mkdir(m.file(stateName)+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.file(stateName)+".new/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(m.file(lifeName))
	l.state.Error = strings.Repeat("\x01", 2*wordBytes) // The longest in JSON.
	if err := errors.Join(l.end(Failed)); err != nil {
		t.Fatal(err)
	}
	s, err := m.Status()
	if err != nil || s.Phase != Failed || len(s.Error) == 0 || said == "" {
		t.Errorf("phase %s, error of %d bytes, %v, said %q", s.Phase, len(s.Error), err, said)
	}
	if after, _ := os.Stat(m.file(lifeName)); before.Size() != after.Size() {
		t.Errorf("the last word took room: %d, then %d bytes", before.Size(), after.Size())
	}
}

func TestEndings(t *testing.T) {
	const at = "[    1.103417] "
	killed := []byte(at + "Out of memory: Killed process 123 (tail) total-vm:409600kB, anon-rss:1kB\r\n")
	if got := outOfMemory(killed); got != "out of memory: the kernel killed 123 (tail)" {
		t.Errorf("got %q", got)
	}
	if !IsNoise([]byte(at+"PCI: Fatal: No config space access function found\r\n")) || IsNoise([]byte(at+"PCI: Fatal: other")) {
		t.Error("what is noise is not known")
	}
}

func TestRestartPolicies(t *testing.T) {
	zero, seven := 0, 7
	for _, c := range []struct {
		policy string
		state  State
		want   bool
	}{
		{"", State{Phase: Failed}, false},
		{"no", State{Phase: Stopped, Exit: &seven}, false},
		{"on-failure", State{Phase: Stopped, Exit: &seven, Restarts: 99}, true},
		{"on-failure", State{Phase: Stopped, Exit: &zero}, false},
		{"on-failure", State{Phase: Stopped}, false},
		{"on-failure", State{Phase: Failed}, true},
		{"on-failure:2", State{Phase: Failed, Restarts: 1}, true},
		{"on-failure:2", State{Phase: Failed, Restarts: 2}, false},
		{"on-failure:0", State{Phase: Failed, Restarts: 2}, true},
		{"always", State{Phase: Stopped, Exit: &zero}, true},
		{"unless-stopped", State{Phase: Stopped}, true},
	} {
		p, err := ParseRestart(c.policy)
		if got := p.again(c.state); err != nil || got != c.want {
			t.Errorf("%q after %+v: %t, %v, want %t", c.policy, c.state, got, err, c.want)
		}
	}
	for _, bad := range []string{"on-failure:", "on-failure:-1", "on-failure:x", "always:1", "sometimes", "no:1"} {
		if _, err := ParseRestart(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	pauses := []time.Duration{}
	for p, i := time.Duration(0), 0; i < 12; i++ {
		p = nextPause(p, time.Second)
		pauses = append(pauses, p)
	}
	if pauses[0] != firstPause || pauses[3] != 8*firstPause || pauses[11] != mostPause || nextPause(mostPause, longLife) != firstPause {
		t.Errorf("pauses %v", pauses)
	}
}

func TestSignals(t *testing.T) {
	for text, want := range map[string]syscall.Signal{"TERM": 15, "SIGTERM": 15, "sigusr1": 10, "9": 9, "31": 31, "Kill": 9} {
		if got, err := ParseSignal(text); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "0", "32", "-9", "SIG", "TERMINATE", "SIGRTMIN+3"} {
		if n, err := ParseSignal(bad); err == nil {
			t.Errorf("%q is %d", bad, n)
		}
	}
}

// The last request decides how to stop; without one the record does.
func TestStopWords(t *testing.T) {
	five, none, ever := 5*time.Second, time.Duration(0), -time.Second
	for i, c := range []struct {
		record Record
		asked  request
		signal syscall.Signal
		grace  time.Duration
	}{
		{Record{}, request{}, 15, DefaultGrace},
		{Record{StopSignal: "INT", StopTimeout: &five}, request{}, 2, five},
		{Record{StopSignal: "INT", StopTimeout: &five}, request{Signal: 3, Grace: &none}, 9, DefaultGrace},
		{Record{StopTimeout: &five}, request{Grace: &ever}, 15, 0},
	} {
		k := &control{with: c.asked}
		if signal, grace := k.stopWords(c.record); signal != c.signal || grace != c.grace {
			t.Errorf("%d: %d, %s", i, signal, grace)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("plain")
	f.Add(string(Entry{time.Unix(1, 2), Stderr, true, []byte("x y"), nil}.append(nil)))
	f.Add(string(Entry{time.Unix(1, 2), Stderr, true, []byte("x y"), &[2]uint64{7, 0}}.append(nil)))
	f.Fuzz(func(t *testing.T, line string) {
		e := parseEntry([]byte(line))
		if e.Time.IsZero() {
			return
		}
		if back := e.append(nil); !bytes.Equal(bytes.TrimSuffix(back, []byte("\n")), bytes.TrimSuffix([]byte(line), []byte("\n"))) {
			t.Errorf("%q became %q", line, back)
		}
	})
}
