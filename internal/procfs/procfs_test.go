package procfs_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/agentd-go/agentd/internal/procfs"
)

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

// guest is a machine with an agent, a shell with brackets in its name, an orphan
// and a thread of the kernel.
func guest() fstest.MapFS {
	stat := func(pid, name, state, parent, flags string) string {
		return pid + " (" + name + ") " + state + " " + parent + " 1 1 0 -1 " + flags +
			" 0 0 0 0 150 50 0 0 20 0 3 0 700 1000000 25 0 0\n"
	}
	return fstest.MapFS{
		"proc/1/stat":     text(stat("1", "agentd", "S", "0", "4194560")),
		"proc/1/status":   text("Name:\tagentd\nUid:\t0\t0\t0\t0\n"),
		"proc/1/cmdline":  text("/init\x00"),
		"proc/2/stat":     text(stat("2", "kthreadd", "S", "0", "2129984")),
		"proc/30/stat":    text(stat("30", "sh) (x", "D", "1", "4194560")),
		"proc/30/status":  text("Name:\tsh\nUid:\t1000\t1000\t1000\t1000\n"),
		"proc/30/cmdline": text("sh\x00-c\x00sleep 1\x00"),
		"proc/31/stat":    text(stat("31", "orphan", "Z", "29", "0")),
		"proc/31/status":  text("Uid:\t7\n"),
		"proc/31/cmdline": text(""),
		"proc/40/status":  text("gone before its stat was read"),
		"proc/30/wchan":   text("pipe_read"),
		"proc/30/syscall": text("0 0x3 0x0\n"),
		"proc/30/stack":   text("[<0>] pipe_read+0x1/0x2\n[<0>] vfs_read+0x1/0x2\n"),
		"proc/30/fd/3":    &fstest.MapFile{Data: []byte("pipe:[77]"), Mode: fs.ModeSymlink},
		"proc/uptime":     text("12.50 10.00\n"),
		"proc/stat":       text("cpu  100 10 40 9999 8888 1 2 3 500 0\ncpu0 1 1 1\ncpu1 1 1 1\nintr 5\n"),
		"proc/loadavg":    text("0.50 1.25 2.00 1/80 99\n"),
		"proc/meminfo":    text("MemTotal:  1000 kB\nMemFree: 400 kB\nMemAvailable: 600 kB\nCached: 100 kB\n"),
		"proc/pressure/io": text("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\n" +
			"full avg10=3.00 avg60=0.00 avg300=0.00 total=1\n"),
		"proc/diskstats": text("254 0 vda 10 0 100 5 20 0 50 9 0 0 0\n254 1 vda1 10 0 100 5 20 0 50 9 0 0 0\n7 0 loop0 1 0 9 0 0 0 0 0 0 0 0\n"),
		"proc/net/dev":   text("Inter-| Receive\n face |bytes\n lo: 9 0 0 0 0 0 0 0 9 0\n eth0: 1500 1 0 0 0 0 0 0 700 2\n"),
	}
}

func TestProcesses(t *testing.T) {
	all, err := procfs.Processes(guest())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range procfs.Tree(all) {
		got = append(got, strings.Repeat(">", b.Depth)+b.Command())
	}
	if want := []string{"/init", ">sh -c sleep 1", "[kthreadd]", "[orphan]"}; !slices.Equal(got, want) {
		t.Errorf("tree %q, want %q", got, want)
	}
	sh := all[2]
	if sh.PID != 30 || sh.Name != "sh) (x" || sh.State != "D" || sh.UID != 1000 || sh.CPU != 2*time.Second ||
		sh.Start != 7*time.Second || sh.RSS != 100<<10 || sh.Threads != 3 || sh.Kernel {
		t.Errorf("shell %+v", sh)
	}
	if !all[1].Kernel {
		t.Errorf("kthreadd %+v is no thread of the kernel", all[1])
	}
}

func TestBrokenProcess(t *testing.T) {
	for _, stat := range []string{"", "1", "x (y) S 1", "1 (y S 1", "1 (y) S 0 1 1"} {
		if all, err := procfs.Processes(fstest.MapFS{"proc/1/stat": text(stat)}); err == nil {
			t.Errorf("stat %q: %+v, want an error", stat, all)
		}
	}
}

func TestWait(t *testing.T) {
	w, err := procfs.WaitOf(guest(), 30)
	if err != nil {
		t.Fatal(err)
	}
	if w.Channel != "pipe_read" || len(w.Stack) != 2 || w.Stack[1] != "vfs_read+0x1/0x2" || w.Syscall != "0 0x3 0x0" {
		t.Errorf("got %+v", w)
	}
	if want := []procfs.File{{FD: "3", Target: "pipe:[77]"}}; !slices.Equal(w.Files, want) {
		t.Errorf("files %v, want %v", w.Files, want)
	}
}

func TestLook(t *testing.T) {
	s, err := procfs.Look(guest())
	if err != nil {
		t.Fatal(err)
	}
	want := procfs.System{
		Uptime: 12500 * time.Millisecond, CPUs: 2, Busy: 1560 * time.Millisecond, Load: [3]float64{.5, 1.25, 2},
		Memory:   procfs.Memory{Total: 1000 << 10, Free: 400 << 10, Available: 600 << 10, Cached: 100 << 10},
		Pressure: procfs.Pressures{IO: procfs.Pressure{Some: 12.5, Full: 3}},
		Disks:    procfs.Traffic{In: 51200, Out: 25600}, Network: procfs.Traffic{In: 1500, Out: 700},
	}
	if s != want {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

// What this host says of the test itself must make sense.
func TestHost(t *testing.T) {
	all, err := procfs.Processes(os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p procfs.Process) bool { return p.PID == os.Getpid() })
	if i < 0 || all[i].Parent != os.Getppid() || all[i].UID != os.Getuid() || !slices.Equal(all[i].Args, os.Args) || all[i].RSS == 0 {
		t.Errorf("this process among %d: index %d", len(all), i)
	}
	s, err := procfs.Look(os.DirFS("/"))
	if err != nil || s.Memory.Total == 0 || s.CPUs == 0 || s.Uptime == 0 {
		t.Errorf("this host: %+v, %v", s, err)
	}
}

func TestBetween(t *testing.T) {
	at := time.Unix(1000, 0)
	p := func(pid int, start, cpu time.Duration) procfs.Process {
		return procfs.Process{PID: pid, Start: start, CPU: cpu}
	}
	a := procfs.Sample{At: at, System: procfs.System{Busy: time.Second, Disks: procfs.Traffic{In: 100}}, Processes: []procfs.Process{
		p(1, 0, time.Second), p(2, 5, time.Second), p(3, 6, time.Second),
	}}
	b := procfs.Sample{At: at.Add(2 * time.Second), System: procfs.System{Busy: 2 * time.Second, Disks: procfs.Traffic{In: 1100}}, Processes: []procfs.Process{
		p(1, 0, time.Second), p(2, 5, 2*time.Second), p(3, 9, 1500*time.Millisecond), {PID: 4, Kernel: true},
	}}
	r := procfs.Between(a, b)
	if r.CPU != 50 || r.DiskIn != 500 || r.DiskOut != 0 {
		t.Errorf("got %+v", r)
	}
	var got []float64
	for _, p := range r.Processes {
		got = append(got, float64(p.PID), p.Percent)
	}
	// 3 is another process than before, and all of its time is new.
	if want := []float64{3, 75, 2, 50, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("processes and percents %v, want %v", got, want)
	}
	if r := procfs.Between(b, b); r.CPU != 0 || len(r.Processes) != 0 {
		t.Errorf("no time: %+v", r)
	}
}

// Processes that a guest says to be above themselves have an end too.
func TestTreeOfLies(t *testing.T) {
	p := func(pid, parent int) procfs.Process { return procfs.Process{PID: pid, Parent: parent} }
	for name, tt := range map[string]struct {
		all  []procfs.Process
		want int
	}{
		"above itself":         {[]procfs.Process{p(1, 1)}, 1},
		"number of nobody":     {[]procfs.Process{p(0, 0), p(0, 7), p(1, 0)}, 3},
		"one number for two":   {[]procfs.Process{p(1, 0), p(5, 1), p(1, 5)}, 3},
		"each above the other": {[]procfs.Process{p(1, 0), p(5, 6), p(6, 5)}, 1},
	} {
		if got := procfs.Tree(tt.all); len(got) != tt.want {
			t.Errorf("%s: %v, want %d processes", name, got, tt.want)
		}
	}
}

// endless is a file system whose files go on for ever.
type endless struct{ fstest.MapFS }

type endlessFile struct{ fs.File }

func (endless) Open(name string) (fs.File, error) {
	f, err := fstest.MapFS{name: text("")}.Open(name)
	return endlessFile{f}, err
}

func (endlessFile) Read(p []byte) (int, error) { return copy(p, strings.Repeat("x", len(p))), nil }

func (endlessFile) ReadAt(p []byte, _ int64) (int, error) { return endlessFile{}.Read(p) }

// A file that does not end is read up to a bound.
func TestEndlessFile(t *testing.T) {
	w, _ := procfs.WaitOf(endless{}, 1) // It has no descriptors.
	if n := len(w.Channel); n == 0 || n > 1<<20 {
		t.Errorf("got %d bytes", n)
	}
}
