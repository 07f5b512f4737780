package client

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// Resources bound a command and all that descends from it, by a control group of its own.
// The zero value bounds nothing, and so does each field that is 0.
type Resources struct {
	Memory     uint64  // Bytes; above them the kernel's memory killer strikes.
	MemoryHigh uint64  // Bytes; above them the command is slowed down while its memory is reclaimed.
	Swap       *uint64 // Bytes of swap; nil is no limit.
	CPUs       float64 // Processors' time, such as 1.5.
	CPUWeight  uint16  // Share of busy processors, 1 to 10000; the kernel's default is 100.
	PIDs       uint64  // Processes and threads.
	Disks      []DiskLimit
}

// A DiskLimit bounds what is moved to and from a disk: bytes and operations in a second. 0 is
// no limit.
type DiskLimit struct {
	Device                string // MAJOR:MINOR in the guest.
	ReadBytes, WriteBytes uint64
	ReadOps, WriteOps     uint64
}

// none reports whether nothing is bounded.
func (r *Resources) none() bool {
	return r.Memory == 0 && r.MemoryHigh == 0 && r.Swap == nil && r.CPUs == 0 && r.CPUWeight == 0 && r.PIDs == 0 && len(r.Disks) == 0
}

const (
	// cpuPeriod is the period of a quota of processors' time, in microseconds; the kernel's own.
	cpuPeriod = 100_000

	// leastQuota is the least quota that the kernel takes, in microseconds.
	leastQuota = 1000

	maxCPUWeight = 10000
)

// limits makes the protocol's form; nil if nothing is bounded.
func (r *Resources) limits() (*wire.GroupLimits, error) {
	if r.none() {
		return nil, nil //nolint:nilnil // The message's field is then left out.
	}
	l := &wire.GroupLimits{MemoryMax: count(r.Memory), MemoryHigh: count(r.MemoryHigh), SwapMax: r.Swap, PIDsMax: count(r.PIDs)}
	if r.CPUs != 0 {
		us := r.CPUs * cpuPeriod
		if math.IsNaN(us) || us < leastQuota || us > math.MaxInt64/1000 {
			return nil, fmt.Errorf("CPUs %v: not a number of processors from %v", r.CPUs, float64(leastQuota)/cpuPeriod)
		}
		l.CPUQuota, l.CPUPeriod = new(uint64(us)), new(uint64(cpuPeriod))
	}
	if r.CPUWeight > maxCPUWeight {
		return nil, fmt.Errorf("CPU weight %d: not in 1 to %d", r.CPUWeight, maxCPUWeight)
	}
	if r.CPUWeight != 0 {
		l.CPUWeight = new(r.CPUWeight)
	}
	for _, d := range r.Disks {
		l.IO = append(l.IO, wire.IOLimit{
			Device: d.Device, ReadBytes: count(d.ReadBytes), WriteBytes: count(d.WriteBytes),
			ReadOps: count(d.ReadOps), WriteOps: count(d.WriteOps),
		})
	}
	return l, nil
}

func count(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

// A Usage is what a command and all that descended from it took.
type Usage struct {
	User   time.Duration `json:"user_ns"`   // Time on processors in programs.
	System time.Duration `json:"system_ns"` // Time on processors in the kernel.

	// MemoryPeak is the most memory that was in use at a time, in bytes. It and the next two
	// are 0 if the guest's kernel does not count them.
	MemoryPeak uint64 `json:"memory_peak"`
	ReadBytes  uint64 `json:"read_bytes"`  // From disks.
	WriteBytes uint64 `json:"write_bytes"` // To disks.

	// OOMKills is how many processes the guest's memory killer ended, and Victims are those
	// that the kernel's log still names.
	OOMKills uint64   `json:"oom_kills"`
	Victims  []Victim `json:"victims,omitempty"`
}

// A Victim is a process that the guest's memory killer ended.
type Victim struct {
	PID  int    `json:"pid"`  // In the guest.
	Name string `json:"name"` // The first 15 bytes.
}

// killed says whom the memory killer ended; "" is nobody.
func (u *Usage) killed() string {
	if u == nil || u.OOMKills == 0 {
		return ""
	}
	names := make([]string, len(u.Victims))
	for i, v := range u.Victims {
		names[i] = fmt.Sprintf("%q (%d)", v.Name, v.PID)
	}
	text := fmt.Sprintf("out of memory: the guest's kernel killed %d of its processes", u.OOMKills)
	return strings.TrimSuffix(text+": "+strings.Join(names, ", "), ": ")
}

func newUsage(u *wire.ExecUsage) *Usage {
	if u == nil {
		return nil
	}
	of := func(n *uint64) uint64 {
		if n == nil {
			return 0
		}
		return *n
	}
	usage := &Usage{
		User: micro(u.CPUUser), System: micro(u.CPUSystem), MemoryPeak: of(u.MemoryPeak),
		ReadBytes: of(u.ReadBytes), WriteBytes: of(u.WriteBytes), OOMKills: u.OOMKills,
	}
	for _, v := range u.Victims {
		usage.Victims = append(usage.Victims, Victim{int(v.PID), v.Name})
	}
	return usage
}

func micro(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
}

// Usage is what the command took, after Wait. It is nil without ReportUsage and Resources.
func (c *Cmd) Usage() *Usage {
	if c.proc == nil {
		return nil
	}
	c.proc.mu.Lock()
	defer c.proc.mu.Unlock()
	return c.proc.usage
}

// KillTree sends signal 9 to the command and to all that descends from it, those processes
// too that have left its process group and session. It needs [ExtensionLimits].
func (c *Cmd) KillTree() error {
	if c.proc == nil {
		return errNotStarted
	}
	if err := c.client.needs(ExtensionLimits, "kill a command's tree"); err != nil {
		return err
	}
	return c.proc.sendAlive(&wire.ExecSignal{Signal: sigkill, Tree: true, Kept: c.proc.kept != nil})
}

var errNotStarted = errors.New("command not started")
