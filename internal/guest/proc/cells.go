package proc

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	// idleCells is how many empty control groups are kept for the next commands. To make
	// and to remove one costs as much as a tenth of a short command; commands one after
	// the other need one, a pipeline of a host some.
	idleCells = 8

	// openCells is how many cells keep their descriptors open, two each: a thousand
	// commands already need three quarters of the descriptors that a kernel gives.
	openCells = 64
)

// A Setting is what one file of a command's control group is set to before the command
// starts.
type Setting struct {
	Controller string // "memory", "cpu", "pids" or "io".
	File, Text string // As in cgroups(7).
	Name       string // The setting's name for messages.
}

// cells hands out control groups for commands. One whose command has left nothing in it is
// used again; the others are removed when they are empty.
type cells struct {
	mu   sync.Mutex
	idle []*sys.Cell
	left []*sys.Cell // In which processes outlive their command; closed.
	open int         // Of those handed out, those with descriptors.
	last int
}

// take returns an empty cell of g, a new one if fresh. It makes no system call for one that
// was used before.
func (c *cells) take(g *sys.Group, fresh bool) (*sys.Cell, error) {
	c.mu.Lock()
	n := len(c.idle)
	if !fresh && n > 0 {
		defer c.mu.Unlock()
		cell := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.open++
		return cell, nil
	}
	c.last++
	number := c.last
	c.open++
	c.mu.Unlock()
	cell, err := g.NewCell(number)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
	}
	return cell, err
}

// started closes the descriptors of a cell whose command runs, if many are open.
func (c *cells) started(cell *sys.Cell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open > openCells {
		c.open--
		cell.Close()
	}
}

// give takes a cell back after its command's end. A fresh one is not used again, because its
// limits and its figures are those of its command.
func (c *cells) give(cell *sys.Cell, fresh bool) {
	state := cell.State()
	c.mu.Lock()
	if cell.FD() >= 0 {
		c.open--
	}
	keep := !fresh && !state.Populated && !state.Frozen && len(c.idle) < idleCells
	if keep {
		c.idle = append(c.idle, cell)
	}
	old := c.oldestLocked()
	c.mu.Unlock()
	if !keep {
		cell.Close()
		c.remove(cell)
	}
	if old != nil {
		c.remove(old)
	}
}

// oldestLocked takes the cell out that is longest among those left. One is tried at each
// command's end, so there are never more than commands that have left something.
func (c *cells) oldestLocked() *sys.Cell {
	if len(c.left) == 0 {
		return nil
	}
	old := c.left[0]
	c.left = c.left[1:]
	return old
}

// remove removes a cell, or keeps it for later if there are still processes in it.
func (c *cells) remove(cell *sys.Cell) {
	if cell.Remove() == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, cell)
}

// cell returns the control group for a command; nil if there are none here and the command
// needs none.
func (t *Table) cell(s *Spec, fresh bool) (*sys.Cell, error) {
	g, err := t.workload.group()
	if err == nil {
		c, made := t.workload.cells.take(g, fresh)
		if made == nil {
			return t.set(g, c, s)
		}
		err = made
	}
	if len(s.Settings) == 0 {
		return nil, nil //nolint:nilnil // Commands without limits run without a group too.
	}
	return nil, &StartError{StageGroup, s.Settings[0].Name, err}
}

// own reports whether the command needs a group that no other command uses.
func (s *Spec) own() bool { return s.Report || len(s.Settings) > 0 }

// set applies a command's settings to its cell.
func (t *Table) set(g *sys.Group, c *sys.Cell, s *Spec) (*sys.Cell, error) {
	if s.own() {
		for _, controller := range []string{"memory", "cpu", "pids", "io"} {
			_ = g.Enable(controller, true) // A setting that needs it says so below.
		}
	}
	for _, set := range s.Settings {
		if err := c.Put(set.File, set.Text); err != nil {
			t.workload.cells.give(c, true)
			return nil, &StartError{StageGroup, set.Name, unmet(g, set, err)}
		}
	}
	return c, nil
}

// ErrNoController says that the kernel cannot limit what a command asks to be limited in.
var ErrNoController = errors.New("the kernel has no such controller of cgroup v2")

func unmet(g *sys.Group, set Setting, err error) error {
	if slices.Contains(g.Controllers(), set.Controller) {
		return err
	}
	return fmt.Errorf("%w: %q", ErrNoController, set.Controller)
}

// Group returns the child's control group, nil without one.
func (c *Child) Group() *sys.Cell { return c.cell }

// SignalTree sends a signal (1 to 31) to every process that descends from the child, those
// too that have left its process group and session. SIGKILL reaches all of them; another
// signal misses processes that start meanwhile. Without a control group it is Signal.
func (c *Child) SignalTree(number int) error {
	if c.cell == nil || number < 1 || number > 31 {
		return c.Signal(number)
	}
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if c.table.children[c.pid] != c {
		return nil // Another command may have the cell by now.
	}
	if number == killSignal && c.cell.Kill() == nil {
		return nil
	}
	all, err := c.cell.Processes()
	for _, pid := range all {
		err = errors.Join(err, sys.Kill(pid, number))
	}
	return err
}

// Grouped reports whether commands can have control groups of their own here.
func (t *Table) Grouped() bool { return t.workload.path != "" && sys.HasGroups(t.workload.path) }
