package suite

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/wire"
)

const (
	// pausedBound is what the agent may have in memory under any load: what it has
	// after boot, 16 MiB of input, 4 MiB of output and a frame for each session, and
	// as much again as the collector leaves behind.
	pausedBound = 64 << 20

	// settled is how much more memory than before the agent may keep when a load is
	// over: pages that the collector has given back to itself and not to the kernel,
	// and the tables of what was open, which do not shrink.
	settled = 12 << 20
)

var seed = flag.Uint64("seed", 0, "seed of the hostile frames; 0 takes another each time")

// pausedHost stops reading while four commands speak as fast as they can: the agent
// holds little, uses next to no processor, and loses nothing.
func pausedHost(t *testing.T, m *trial) {
	t.Helper()
	pause, size := 5, 16<<20
	if long() {
		pause, size = 12, 64<<20
	}
	p := m.raw(30)
	// Two samples a second, or fewer while the commands take the processor. The console
	// tells the end, because the port is silent.
	const sampler = `(for i in $(seq %d); do sleep 0.4; echo $(awk '/VmRSS/ {print $2}' /proc/1/status) $(awk '{print $14+$15}' /proc/1/stat); done >/dev/shm/samples; echo %s >/dev/console) >/dev/null 2>&1 </dev/null &`
	const taken = "samples are taken"
	if _, err := m.say(fmt.Sprintf(sampler, 2*pause-2, taken)); err != nil {
		t.Fatal(err)
	}
	m.tap.Hold(true)
	for id := range uint32(4) {
		if err := p.Send(id, &wire.ExecRequest{Cmd: "sh", Args: []string{"-c", fmt.Sprintf("yes 0123456789 | head -c %d", size)}}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	m.awaitConsole(t, taken)
	took := time.Since(start)
	m.tap.Hold(false)
	const line = "0123456789\n"
	want := sha256.Sum256([]byte(strings.Repeat(line, size/len(line)+1)[:size]))
	for id := range uint32(4) {
		if r, err := p.Collect(id); err != nil || sha256.Sum256(r.Stdout) != want {
			t.Errorf("command %d: %d bytes of %d, or others: %v", id, len(r.Stdout), size, err)
		}
	}
	most, used := m.samples(t)
	t.Logf("paused for %v: at most %d KiB resident, typically %v of processor time in half a second", took, most>>10, used)
	if most > pausedBound {
		t.Errorf("%d MiB are resident, want at most %d", most>>20, pausedBound>>20)
	}
	if most := m.scaled(5 * time.Millisecond); used > most {
		t.Errorf("it used %v of the processor, want at most %v", used, most)
	}
}

// awaitConsole waits until the machine's console has a line.
func (m *trial) awaitConsole(t *testing.T, line string) {
	t.Helper()
	for !bytes.Contains(m.Console(), []byte(line)) {
		select {
		case <-m.ctx.Done():
			t.Fatalf("%q is not on the console", line)
		case <-time.After(patience / 600):
		}
	}
}

// samples returns the most memory, and what the agent typically used of the processor
// from one sample to the next in the second half, when the commands' output is full.
func (m *trial) samples(t *testing.T) (most int, used time.Duration) {
	t.Helper()
	out, err := m.say("cat /dev/shm/samples")
	if err != nil {
		t.Fatal(err)
	}
	const tick = 10 * time.Millisecond // CLK_TCK is 100 everywhere.
	var deltas []time.Duration
	last := 0
	for line := range strings.Lines(out) {
		var kib, ticks int
		if _, err := fmt.Sscan(line, &kib, &ticks); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if last > 0 {
			deltas = append(deltas, time.Duration(ticks-last)*tick)
		}
		most, last = max(most, kib<<10), ticks
	}
	if len(deltas) == 0 {
		t.Fatalf("no samples in %q", out)
	}
	return most, median(deltas[len(deltas)/2:])
}

// inputFlood sends 64 MiB to a command that reads nothing for a while, and then
// must have got every byte; another client's pings are answered meanwhile.
func inputFlood(t *testing.T, m *trial) {
	t.Helper()
	const size, chunk, silent = 64 << 20, 3 << 20, 5
	p, other := m.raw(31), m.raw(32)
	data := random(size, 7)
	if err := p.Send(0, &wire.ExecRequest{Cmd: "sh", Args: []string{"-c", fmt.Sprintf("sleep %d; sha256sum", silent)}}); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		for rest := data; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
			if err := p.Send(0, &wire.ExecStdin{Data: rest[:min(chunk, len(rest))]}); err != nil {
				sent <- err
				return
			}
		}
		sent <- p.Send(0, &wire.ExecStdin{Data: []byte{}})
	}()
	var rounds []time.Duration
	for done := false; !done || len(rounds) < 10; {
		took, err := other.Round()
		if err != nil {
			t.Fatal(err)
		}
		rounds = append(rounds, took)
		select {
		case err := <-sent:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	r, err := p.Collect(0)
	if want := fmt.Sprintf("%x  -\n", sha256.Sum256(data)); err != nil || string(r.Stdout) != want || len(r.StdinErrors) > 0 {
		t.Errorf("the command got other bytes: %q, %d errors, %v", r.Stdout, len(r.StdinErrors), err)
	}
	// Each ping stands after a chunk that is on the link already.
	typical, bound := median(rounds), m.scaled(100*time.Millisecond)
	t.Logf("%d pings beside the flood, typically %v", len(rounds), typical)
	if typical > bound {
		t.Errorf("a ping takes %v, want at most %v", typical, bound)
	}
}

// hostileFrames sends invalid frames, and checks that earlier sessions still work.
func hostileFrames(t *testing.T, m *trial) {
	t.Helper()
	frames, from := 10_000, *seed
	if long() {
		frames = 100_000
	}
	if from == 0 {
		from = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -seed=%d", from)
	mine := m.raw(40)
	if err := mine.Send(0, &wire.ExecRequest{Cmd: "sh", Args: []string{"-c", "read line; echo still $line"}}); err != nil {
		t.Fatal(err)
	}
	before, err := m.resident()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := m.raw(41).Hostile(from, frames); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	if err := m.Client().SyncClock(m.ctx, time.Now()); err != nil { // They set it, too.
		t.Error(err)
	}
	if _, err := m.say("killall -9 cat || true"); err != nil {
		t.Error(err)
	}
	if err := mine.Send(0, &wire.ExecStdin{Data: []byte("here\n")}); err != nil {
		t.Fatal(err)
	}
	if r, err := mine.Collect(0); err != nil || string(r.Stdout) != "still here\n" || r.Code != 0 {
		t.Errorf("the session from before: %q, code %d, %v", r.Stdout, r.Code, err)
	}
	after := m.settles(t, before+settled)
	t.Logf("%d frames in %v; resident %d KiB before, %d KiB after", frames, took.Round(time.Millisecond), before>>10, after>>10)
}

// settles waits until the agent has given memory back, and returns what it has.
func (m *trial) settles(t *testing.T, bound int) (resident int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		resident, err := m.resident()
		if err != nil {
			t.Fatal(err)
		}
		if resident <= bound {
			return resident
		}
		if time.Now().After(deadline) {
			t.Errorf("%d KiB are resident, want at most %d", resident>>10, bound>>10)
			return resident
		}
	}
}

// noPIDs takes every process id of the machine: the agent needs none of its own, and
// says why a command does not start.
func noPIDs(t *testing.T, m *trial) {
	t.Helper()
	// A kernel never gives the first 300 a second time: half of these are left.
	const few, many = 600, 32768
	if _, err := m.say("echo " + strconv.Itoa(few) + " >/proc/sys/kernel/pid_max"); err != nil {
		t.Fatal(err)
	}
	p := m.raw(50)
	var started uint32
	for ; started < few; started++ {
		if err := p.Send(started, &wire.ExecRequest{Cmd: "sleep", Args: []string{"1000"}}); err != nil {
			t.Fatal(err)
		}
		r, err := p.Hear(started)
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := r.Message.(*wire.ExecFailed); ok {
			if f.Kind != wire.FailureResourceLimit || !strings.HasSuffix(f.Message, "Resource temporarily unavailable (os error 11)") {
				t.Errorf("it failed with %s %q", f.Kind, f.Message)
			}
			break
		}
	}
	if started == few {
		t.Error("every command started")
	}
	for range 200 {
		if got, err := p.File(&wire.OpRealPath{Path: "/etc/passwd"}); err != nil || got != "/etc/passwd" {
			t.Fatalf("a file operation: %q, %v", got, err)
		}
	}
	for id := range started {
		if err := p.Send(id, &wire.ExecSignal{Signal: 9}); err != nil {
			t.Fatal(err)
		}
		if r, err := p.Collect(id); err != nil || r.Code != -1 {
			t.Fatalf("command %d: code %d, %v", id, r.Code, err)
		}
	}
	if out, err := m.say("echo " + strconv.Itoa(many) + " >/proc/sys/kernel/pid_max; echo again"); err != nil || out != "again\n" {
		t.Errorf("afterwards: %q, %v", out, err)
	}
	t.Logf("%d commands until none started", started)
}

// setClocks: 1 h, and 5 s, are corrected by one message; 50 ms are left alone. A busy host
// holds messages up, and then the agent sets the clock to what was true: that is tried again.
func setClocks(t *testing.T, m *trial) {
	t.Helper()
	const tries = 10
	var wrong string
	for range tries {
		if wrong = m.setClocks(t); wrong == "" {
			return
		}
		t.Log(wrong)
	}
	t.Errorf("in each of %d tries: %s", tries, wrong)
}

// setClocks is one try, and says what is wrong.
func (m *trial) setClocks(t *testing.T) (wrong string) {
	t.Helper()
	if _, err := m.say("date -s @$(( $(date +%s) - 3600 ))"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := m.Client().SyncClock(m.ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	off, early, late := m.clock(t)
	t.Logf("the clock was right %v after it was set 1 h wrong: %v to %v off", time.Since(start).Round(time.Millisecond), early, late)
	const tolerance = 100 * time.Millisecond
	if early > tolerance || late < -tolerance {
		return fmt.Sprintf("the guest's clock is %v to %v off", early, late)
	}
	for _, tt := range []struct {
		by, want time.Duration
	}{
		{50 * time.Millisecond, 0},
		{5 * time.Second, 5 * time.Second},
		{0, -5 * time.Second},
	} {
		if err := m.Client().SyncClock(m.ctx, time.Now().Add(tt.by)); err != nil {
			t.Fatal(err)
		}
		now, _, _ := m.clock(t)
		moved := now - off
		if (moved - tt.want).Abs() > tolerance {
			return fmt.Sprintf("told %v, the clock moved by %v", tt.by, moved)
		}
		t.Logf("told %v, the clock moved by %v", tt.by, moved)
		off = now
	}
	return ""
}

// clock returns the guest's time less its time since boot, which changes only when
// the clock is set, and how far at least and at most it is from ours.
func (m *trial) clock(t *testing.T) (off, early, late time.Duration) {
	t.Helper()
	// A reading is three programs: one counts that a busy host did not hold up.
	const quick, tries = 50 * time.Millisecond, 100
	const up = "cut -d' ' -f1 /proc/uptime; "
	for range tries {
		before := time.Now()
		out, err := m.say(up + "adjtimex | awk '/time.tv_/ {print $NF}'; " + up)
		after := time.Now()
		if err != nil {
			t.Fatal(err)
		}
		var sec, usec int64
		var first, last float64
		if _, err := fmt.Sscan(out, &first, &sec, &usec, &last); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		guest := time.Unix(sec, usec*1000)
		if took := time.Duration((last - first) * 1e9); took <= quick {
			return time.Duration(guest.UnixNano()) - time.Duration(first*1e9) - took/2, guest.Sub(after), guest.Sub(before)
		}
	}
	t.Fatalf("none of %d readings of the clock took less than %v", tries, quick)
	return 0, 0, 0
}

// heartbeats are read while a command floods the host and another says nothing.
func heartbeats(t *testing.T, m *trial) {
	t.Helper()
	p := m.raw(35)
	for id, argv := range [][]string{{"sleep", "1000"}, {"sh", "-c", "while :; do seq 1 1000; done"}} {
		if err := p.Send(uint32(id), &wire.ExecRequest{Cmd: argv[0], Args: argv[1:]}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := m.say("i=0; while [ $i -lt 25 ]; do cat /.msb/heartbeat.json; echo; ls -A /.msb | tr '\\n' ' '; echo; sleep 0.2; i=$((i+1)); done")
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint32(2) {
		if err := p.Send(id, &wire.ExecSignal{Signal: 9}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Collect(id); err != nil {
			t.Error(err)
		}
	}
	judgeBeats(t, strings.Split(strings.TrimSpace(out), "\n"))
	countedBeats(t, m)
}

// pings asks for signs of life, one after the other, for a while.
func (m *trial) pings(t *testing.T, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if _, err := m.Client().Ping(m.ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// countedBeats keeps heartbeats while nothing happens but pings, then one touch: the
// count of activity stands still, and then is one higher.
func countedBeats(t *testing.T, m *trial) {
	t.Helper()
	const samples = 16 // In 4 s and more.
	_, err := m.say(fmt.Sprintf("(i=0; while [ $i -lt %d ]; do cat /.msb/heartbeat.json; echo; sleep 0.25; i=$((i+1)); done >/dev/shm/beats; "+
		"mv /dev/shm/beats /dev/shm/kept) >/dev/null 2>&1 </dev/null &", samples))
	if err != nil {
		t.Fatal(err)
	}
	m.pings(t, 2*time.Second) // Two heartbeats.
	touched, err := m.Client().Touch(m.ctx)
	if err != nil {
		t.Fatal(err)
	}
	m.pings(t, 2*time.Second)
	out, err := m.say("while ! test -e /dev/shm/kept; do sleep 0.1; done; cat /dev/shm/kept")
	if err != nil {
		t.Fatal(err)
	}
	var counts []uint64
	for line := range strings.Lines(out) {
		b, err := parseBeat([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, b.Activity)
	}
	// The last question counts too.
	counts = slices.DeleteFunc(slices.Compact(counts), func(n uint64) bool { return n > touched })
	// The first may be from before the command that keeps them.
	if n := len(counts); n < 2 || n > 3 || !slices.Equal(counts[n-2:], []uint64{touched - 1, touched}) {
		t.Errorf("heartbeats count %d, and the touch was number %d", counts, touched)
	}
	t.Logf("heartbeats beside pings count %d; the touch was number %d", counts, touched)
}

// judgeBeats checks pairs of a heartbeat and the file beside it: whole at every
// instant, the union of the fields that hosts want, always higher, nothing left.
func judgeBeats(t *testing.T, lines []string) {
	t.Helper()
	var first, last beat
	ticks, others := 0, 0
	for i := 0; i+1 < len(lines); i += 2 {
		b, err := parseBeat([]byte(lines[i]))
		if err != nil {
			t.Fatalf("heartbeat %d: %v", i/2, err)
		}
		if i == 0 {
			first = b
		}
		begun := b.Seq > first.Seq+1 // The first may be from before the commands.
		if b.Seq < last.Seq || b.Activity < last.Activity || (begun && b.ActiveExec < 2) || b.ActiveSessions != b.ActiveExec {
			t.Errorf("heartbeat %d: %+v after %+v", i/2, b, last)
		}
		if b.Seq > last.Seq {
			ticks++
		}
		if beside := strings.TrimSpace(lines[i+1]); beside != "heartbeat.json scripts" {
			others++ // Caught in the act: what is renamed is there for a moment.
			if strings.Contains(beside, "heartbeat.tmp") {
				t.Error("there is a heartbeat.tmp")
			}
		}
		last = b
	}
	t.Logf("%d heartbeats seen under a flood, %d to %d; activity %d to %d; %d times a file beside",
		ticks, first.Seq, last.Seq, first.Activity, last.Activity, others)
	const least, most = 3, 3 // In 5 s and more.
	if ticks < least || others > most || last.Activity == first.Activity {
		t.Error("heartbeats are missing, files are left beside them, or the flood is no activity")
	}
}
