package sys

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Cell is the control group of one command, in a [Group]. Its methods are for one
// goroutine at a time, except Put and Get.
type Cell struct {
	in     *Group
	name   string
	dir    int // O_PATH; -1 when closed.
	events int // cgroup.events; -1 when closed.
}

// NewCell makes a control group in g; number is its name.
func (g *Group) NewCell(number int) (*Cell, error) {
	const perm = 0o755
	c := &Cell{g, strconv.Itoa(number), -1, -1}
	if err := unix.Mkdirat(g.dir, c.name, perm); err != nil {
		return nil, os.NewSyscallError("mkdir", err)
	}
	if err := c.open(); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

func (c *Cell) open() (err error) {
	if c.dir, err = openIn(c.in.dir, c.name, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err
	}
	c.events, err = openIn(c.dir, "cgroup.events", unix.O_RDONLY)
	return err
}

// openIn opens a file of a control group. Such a directory has no symbolic links.
func openIn(dir int, name string, flags int) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0) })
	return fd, pathError("open", name, err)
}

// Name is the cell's name in its group.
func (c *Cell) Name() string { return c.name }

// Path is the cell's path below the mount of the tree, as the kernel's log has it.
func (c *Cell) Path() string { return strings.TrimPrefix(c.in.path, groups) + "/" + c.name }

// FD is the descriptor for a child that is to begin in the cell. It stays the cell's.
func (c *Cell) FD() int { return c.dir }

// A CellState says whether processes are in a cell or below it.
type CellState struct{ Populated, Frozen bool }

// State reads the cell's state, by one system call. A cell that is closed or removed counts
// as frozen and populated: it cannot be used again.
func (c *Cell) State() CellState {
	const room = 256 // Two short lines.
	var b [room]byte
	n, err := startNow(uintptr(c.events), b[:])
	if err != nil {
		return CellState{true, true}
	}
	return CellState{!bytes.Contains(b[:n], []byte("populated 0\n")), bytes.Contains(b[:n], []byte("frozen 1\n"))}
}

// Close closes the cell's descriptors. Put, Get and Remove still work.
func (c *Cell) Close() {
	for _, fd := range []*int{&c.events, &c.dir} {
		if *fd >= 0 {
			_ = unix.Close(*fd) // Nothing was written.
		}
		*fd = -1
	}
}

// Remove removes the cell and what was made below it. It fails with EBUSY while a process
// is in one of them.
func (c *Cell) Remove() error { return removeGroup(c.in.dir, c.name, maxNested) }

// maxNested is how deep the groups below a cell are removed. Deeper ones stay, with the cell.
const maxNested = 16

// removeGroup removes a control group, and the groups below it if there are any: rmdir(2)
// refuses a group with groups below it by EBUSY, as it does one with processes.
func removeGroup(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	if !errors.Is(err, unix.EBUSY) || depth == 0 {
		return os.NewSyscallError("rmdir", err)
	}
	nested, err := groupsIn(dir, name)
	if err != nil || len(nested) == 0 {
		return errors.Join(os.NewSyscallError("rmdir", unix.EBUSY), err)
	}
	for _, below := range nested {
		if err := removeGroup(dir, name+"/"+below, depth-1); err != nil {
			return err
		}
	}
	return os.NewSyscallError("rmdir", unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
}

// groupsIn lists the control groups in a control group.
func groupsIn(dir int, name string) (all []string, err error) {
	fd, err := openIn(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // Nothing was written.
	entries, err := f.ReadDir(-1)
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name())
		}
	}
	return all, err
}

// Put writes one of the cell's files.
func (c *Cell) Put(file, text string) error { return putAt(c.in.dir, c.name+"/"+file, text) }

// Get reads one of the cell's files.
func (c *Cell) Get(file string) (string, error) { return getAt(c.in.dir, c.name+"/"+file) }

// Kill kills every process of the cell and of the groups below it, those that left their
// session too. Kernels before 5.14 lack it (ENOENT).
func (c *Cell) Kill() error { return c.Put("cgroup.kill", "1") }

// Processes lists the processes of the cell and of the groups below it.
func (c *Cell) Processes() ([]int, error) { return processesIn(c.in.dir, c.name, maxNested) }

func processesIn(dir int, name string, depth int) (all []int, err error) {
	text, err := getAt(dir, name+"/cgroup.procs")
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(text) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
			all = append(all, pid)
		}
	}
	nested, err := groupsIn(dir, name)
	if err != nil || depth == 0 {
		return all, err
	}
	for _, below := range nested {
		more, _ := processesIn(dir, name+"/"+below, depth-1) // It may have been removed meanwhile.
		all = append(all, more...)
	}
	return all, nil
}

// Controllers lists the controllers that the kernel has for groups (cgroups(7)), such as
// "memory".
func (g *Group) Controllers() []string {
	text, err := getAt(g.dir, "../cgroup.controllers")
	if err != nil {
		return nil
	}
	return strings.Fields(text)
}

// Enable makes a controller work in g, or also in its cells.
func (g *Group) Enable(controller string, inCells bool) error {
	files := []string{"../cgroup.subtree_control"}
	if inCells {
		files = append(files, "cgroup.subtree_control")
	}
	for _, file := range files {
		if text, err := getAt(g.dir, file); err == nil && slices.Contains(strings.Fields(text), controller) {
			continue
		}
		if err := putAt(g.dir, file, "+"+controller); err != nil {
			return err
		}
	}
	return nil
}

// Put writes one of the group's files.
func (g *Group) Put(file, text string) error { return putAt(g.dir, file, text) }

func putAt(dir int, name, text string) error {
	fd, err := openIn(dir, name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte(text)) })
	_ = unix.Close(fd) // The write has reported all.
	return pathError("write", filepath.Base(name), err)
}

// maxGroupFile bounds what is read of a control group's file: some thousand process ids, or
// the figures of some hundred disks.
const maxGroupFile = 64 << 10

func getAt(dir int, name string) (string, error) {
	fd, err := openIn(dir, name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // Nothing was written.
	b, err := io.ReadAll(io.LimitReader(f, maxGroupFile))
	return string(b), err
}
