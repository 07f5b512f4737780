package procfs

import (
	"cmp"
	"io/fs"
	"slices"
	"time"
)

// A Sample holds the figures of a machine and its processes at one moment of the
// reader's clock.
type Sample struct {
	At        time.Time
	System    System
	Processes []Process
}

// Take takes a sample.
func Take(fsys fs.FS) (s Sample, err error) {
	s.At = time.Now()
	if s.System, err = Look(fsys); err != nil {
		return s, err
	}
	s.Processes, err = Processes(fsys)
	return s, err
}

// Rates hold the changes between two samples, and the state at the second one.
type Rates struct {
	CPU       float64   `json:"cpu_percent"` // Percent of one CPU: 200 means two busy CPUs.
	DiskIn    float64   `json:"disk_in_bytes_per_second"`
	DiskOut   float64   `json:"disk_out_bytes_per_second"`
	NetIn     float64   `json:"net_in_bytes_per_second"`
	NetOut    float64   `json:"net_out_bytes_per_second"`
	System    System    `json:"system"`
	Processes []Running `json:"processes"` // The busiest first, without kernel threads.

	// Commands are those of an agent, the busiest first; see [Rates.OfCommands].
	Commands []Command `json:"commands,omitempty"`
}

// Running is a process with its use of resources.
type Running struct {
	Process
	Percent float64 `json:"cpu_percent"`
}

// Between compares two samples.
func Between(a, b Sample) (r Rates) {
	r.System = b.System
	took := b.At.Sub(a.At)
	if took <= 0 {
		return r
	}
	percent := func(d time.Duration) float64 { return 100 * float64(max(0, d)) / float64(took) }
	second := func(before, after int64) float64 { return float64(max(0, after-before)) / took.Seconds() }
	r.CPU = percent(b.System.Busy - a.System.Busy)
	r.DiskIn = second(a.System.Disks.In, b.System.Disks.In)
	r.DiskOut = second(a.System.Disks.Out, b.System.Disks.Out)
	r.NetIn = second(a.System.Network.In, b.System.Network.In)
	r.NetOut = second(a.System.Network.Out, b.System.Network.Out)
	before := map[int]Process{}
	for _, p := range a.Processes {
		before[p.PID] = p
	}
	r.Processes = []Running{}
	for _, p := range b.Processes {
		if p.Kernel {
			continue
		}
		since := p.CPU
		if old, ok := before[p.PID]; ok && old.Start == p.Start { // Otherwise another process had that number.
			since -= old.CPU
		}
		r.Processes = append(r.Processes, Running{p, percent(since)})
	}
	slices.SortStableFunc(r.Processes, func(x, y Running) int {
		return cmp.Or(cmp.Compare(y.Percent, x.Percent), cmp.Compare(y.RSS, x.RSS))
	})
	return r
}
