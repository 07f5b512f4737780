package wire

// GroupLimits bound a command and all that descends from it. They are those of a control group
// (cgroups(7), version 2), and belong to the extension "limits"; nil is no limit.
type GroupLimits struct {
	MemoryMax  *uint64 // bytes; above it the kernel's memory killer strikes
	MemoryHigh *uint64 // bytes; above it the command is slowed down and its memory is reclaimed
	SwapMax    *uint64 // bytes

	// CPUQuota is the time on processors in each CPUPeriod, both in microseconds; more than
	// the period means more than one processor. The period without a value is 100 ms.
	CPUQuota  *uint64
	CPUPeriod *uint64

	CPUWeight *uint16 // share of busy processors, 1 to 10000; the kernel's default is 100

	PIDsMax *uint64 // processes and threads

	IO []IOLimit
}

// IOLimit bounds what a command may move to and from one disk in a second.
type IOLimit struct {
	Device     string // MAJOR:MINOR
	ReadBytes  *uint64
	WriteBytes *uint64
	ReadOps    *uint64
	WriteOps   *uint64
}

// The bounds of GroupLimits.CPUWeight.
const (
	minWeight = 1
	maxWeight = 10000
)

func (l *GroupLimits) fields() []field {
	return []field{
		omitted("memory_max", optionalNumber(&l.MemoryMax)),
		omitted("memory_high", optionalNumber(&l.MemoryHigh)),
		omitted("swap_max", optionalNumber(&l.SwapMax)),
		omitted("cpu_quota_us", optionalNumber(&l.CPUQuota)),
		omitted("cpu_period_us", optionalNumber(&l.CPUPeriod)),
		omitted("cpu_weight", optional(&l.CPUWeight, weight)),
		omitted("pids_max", optionalNumber(&l.PIDsMax)),
		omitted("io", objects(&l.IO)),
	}
}

func weight(p *uint16) value { return between(p, minWeight, maxWeight) }

func (l *IOLimit) fields() []field {
	return []field{
		required("device", text(&l.Device)),
		omitted("read_bytes", optionalNumber(&l.ReadBytes)),
		omitted("write_bytes", optionalNumber(&l.WriteBytes)),
		omitted("read_ops", optionalNumber(&l.ReadOps)),
		omitted("write_ops", optionalNumber(&l.WriteOps)),
	}
}

// ExecUsage is what a command and all that descended from it took, until the command's end.
type ExecUsage struct {
	CPUUser, CPUSystem    uint64  // microseconds
	MemoryPeak            *uint64 // bytes; nil if the kernel does not count it
	ReadBytes, WriteBytes *uint64 // from and to disks; nil if the kernel does not count them
	OOMKills              uint64  // processes that the kernel's memory killer ended
	Victims               []OOMVictim
}

// OOMVictim is a process that the kernel's memory killer ended. The list may be shorter than
// OOMKills: its source is the kernel's log, which forgets.
type OOMVictim struct {
	PID  uint32 // in the guest
	Name string // the first 15 bytes of the program's name
}

func (u *ExecUsage) fields() []field {
	return []field{
		required("cpu_user_us", num(&u.CPUUser)),
		required("cpu_system_us", num(&u.CPUSystem)),
		omitted("memory_peak", optionalNumber(&u.MemoryPeak)),
		omitted("read_bytes", optionalNumber(&u.ReadBytes)),
		omitted("write_bytes", optionalNumber(&u.WriteBytes)),
		required("oom_kills", num(&u.OOMKills)),
		omitted("oom_victims", objects(&u.Victims)),
	}
}

func (v *OOMVictim) fields() []field {
	return []field{
		required("pid", num(&v.PID)),
		required("name", text(&v.Name)),
	}
}
