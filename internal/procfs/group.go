package procfs

import (
	"cmp"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// workload is the control group in which an agent starts commands, each in one of its own.
const workload = "sys/fs/cgroup/microsandbox-workload"

// A Command is what a command of the agent takes, with all that descends from it.
type Command struct {
	Group     string   `json:"group"` // The name of its control group.
	PID       int      `json:"pid"`   // The first of its processes.
	Args      []string `json:"args"`  // Of that process.
	Processes int      `json:"processes"`
	Percent   float64  `json:"cpu_percent"`
	RSS       int64    `json:"rss_bytes"`
}

// Groups returns the control group of each process that an agent has started, or that
// descends from one. It is empty where commands have no groups: beside another init, and
// without cgroup v2.
func Groups(fsys fs.FS) map[int]string {
	of := map[int]string{}
	entries, _ := fs.ReadDir(fsys, workload) // Without control groups there are none.
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		b, _ := read(fsys, path.Join(workload, e.Name(), "cgroup.procs")) // It may be gone.
		for word := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(word); err == nil {
				of[pid] = e.Name()
			}
		}
	}
	return of
}

// OfCommands adds up what the processes of each command take, the busiest first. A process in
// a group below a command's counts for the command of its parent.
func (r *Rates) OfCommands(groups map[int]string) []Command {
	parents := map[int]int{}
	for _, p := range r.Processes {
		parents[p.PID] = p.Parent
	}
	sums := map[string]*Command{}
	for _, p := range r.Processes {
		group := groups[p.PID]
		for at := p.Parent; group == "" && at > 1; at = parents[at] {
			group = groups[at]
		}
		if group == "" {
			continue
		}
		c := sums[group]
		if c == nil {
			c = &Command{Group: group}
			sums[group] = c
		}
		c.Processes++
		c.Percent += p.Percent
		c.RSS += p.RSS
		if c.PID == 0 || p.PID < c.PID {
			c.PID, c.Args = p.PID, p.Args
		}
	}
	all := []Command{}
	for _, c := range sums {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(x, y Command) int {
		return cmp.Or(cmp.Compare(y.Percent, x.Percent), cmp.Compare(y.RSS, x.RSS), cmp.Compare(x.PID, y.PID))
	})
	return all
}
