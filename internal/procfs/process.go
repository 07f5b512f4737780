package procfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// pageSize and tick hold for all our guests: x86-64 and arm64 with 4 KiB pages, and
	// USER_HZ, which is always 100 in /proc.
	pageSize = 4096
	tick     = time.Second / 100

	// kernelThread is PF_KTHREAD (include/linux/sched.h).
	kernelThread = 0x00200000

	// readers is how many files are read at once: as many operations as an agent runs
	// at once for one client.
	readers = 8
)

// A Process is one process as /proc shows it.
type Process struct {
	PID     int           `json:"pid"`
	Parent  int           `json:"ppid"`
	UID     int           `json:"uid"`
	Name    string        `json:"name"`  // The kernel's name for it, at most 15 bytes.
	State   string        `json:"state"` // One letter: R, S, D, Z, T, ...
	Threads int           `json:"threads"`
	CPU     time.Duration `json:"cpu_ns"` // User and system time.
	Start   time.Duration `json:"start_ns"`
	RSS     int64         `json:"rss_bytes"`
	Args    []string      `json:"args"`
	Kernel  bool          `json:"kernel,omitempty"` // It is a kernel thread.
}

// Command returns the command in a form for people.
func (p *Process) Command() string {
	if len(p.Args) == 0 {
		return "[" + p.Name + "]"
	}
	return strings.Join(p.Args, " ")
}

// Processes returns all processes, sorted by number. fsys has /proc at "proc".
func Processes(fsys fs.FS) ([]Process, error) {
	pids, err := pids(fsys)
	if err != nil {
		return nil, err
	}
	found := make([]*Process, len(pids))
	errs := make([]error, len(pids))
	each(len(pids), func(i int) { found[i], errs[i] = process(fsys, pids[i]) })
	var all []Process
	for i, p := range found {
		switch {
		case errs[i] == nil:
			all = append(all, *p)
		case !gone(errs[i]):
			err = errors.Join(err, errs[i])
		}
	}
	return all, err
}

// gone reports whether err means that the process has ended. Reading its open files
// then fails with ESRCH.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "no such process")
}

// each calls f for 0 to n-1, several at once.
func each(n int, f func(i int)) {
	var all sync.WaitGroup
	next := make(chan int)
	for range min(n, readers) {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

func pids(fsys fs.FS) (all []int, err error) {
	entries, err := fs.ReadDir(fsys, "proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 0 {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all, err
}

// fileBytes bounds the read of one file, which takes one operation of an agent. It
// protects against a guest that sends without end; only arguments can be longer.
const fileBytes = 64 << 10

// read returns the beginning of a file.
func read(fsys fs.FS, name string) (b []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // It was only read.
	at, ok := f.(io.ReaderAt)
	if !ok {
		return io.ReadAll(io.LimitReader(f, fileBytes))
	}
	b = make([]byte, fileBytes)
	n, err := at.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

func file(pid int, name string) string { return path.Join("proc", strconv.Itoa(pid), name) }

func process(fsys fs.FS, pid int) (*Process, error) {
	stat, err := read(fsys, file(pid, "stat"))
	if err != nil {
		return nil, err
	}
	p, err := parseStat(string(stat))
	if err != nil || p.Kernel {
		return p, err
	}
	status, err := read(fsys, file(pid, "status"))
	if err != nil {
		return nil, err
	}
	p.UID = int(number(field(status, "Uid:")))
	args, err := read(fsys, file(pid, "cmdline"))
	if err != nil {
		return nil, err
	}
	if args = bytes.TrimRight(args, "\x00"); len(args) > 0 {
		p.Args = strings.Split(string(args), "\x00")
	}
	return p, nil
}

// parseStat reads /proc/PID/stat. The name may hold brackets and spaces, so the last
// bracket ends it.
func parseStat(s string) (*Process, error) {
	number, rest, ok := strings.Cut(s, " (")
	end := strings.LastIndexByte(rest, ')')
	pid, err := strconv.Atoi(number)
	if !ok || end < 0 || err != nil {
		return nil, fmt.Errorf("process %q: not as proc_pid_stat(5) has it", s)
	}
	// The fields from 3 on: state is f[0].
	f := strings.Fields(rest[end+1:])
	const first, last = 3, 24
	if len(f) <= last-first {
		return nil, fmt.Errorf("process %d: %d fields", pid, len(f)+first-1)
	}
	n := func(i int) int64 { v, _ := strconv.ParseInt(f[i-first], 10, 64); return v }
	return &Process{
		PID: pid, Name: rest[:end], State: f[0], Parent: int(n(4)),
		Kernel:  n(9)&kernelThread != 0,
		CPU:     time.Duration(n(14)+n(15)) * tick,
		Threads: int(n(20)), Start: time.Duration(n(22)) * tick, RSS: n(24) * pageSize,
	}, nil
}

// field returns the text after a name at the beginning of a line.
func field(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// number reads the digits at the start of a field, or 0 if there are none.
func number(s string) int64 {
	digits, _, _ := strings.Cut(strings.Join(strings.Fields(s), " "), " ")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

// A Branch is a process with its depth in the tree.
type Branch struct {
	Process
	Depth int
}

// Tree orders processes so that each follows its parent, and adds their depths.
func Tree(all []Process) (out []Branch) {
	children := map[int][]Process{}
	known := map[int]bool{}
	for _, p := range all {
		known[p.PID] = true
	}
	for _, p := range all {
		parent := p.Parent
		if !known[parent] || parent == p.PID {
			parent = 0
		}
		children[parent] = append(children[parent], p)
	}
	var grow func(parent, depth int)
	grow = func(parent, depth int) {
		below := children[parent]
		delete(children, parent) // Visit each parent once: a guest may claim that a process is its own ancestor.
		slices.SortFunc(below, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
		for _, p := range below {
			out = append(out, Branch{p, depth})
			grow(p.PID, depth+1)
		}
	}
	grow(0, 0)
	return out
}
