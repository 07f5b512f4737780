package exec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/proc"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// The names of controllers, and of the files that are read at a command's end.
const (
	memory = "memory"
	cpu    = "cpu"
	pids   = "pids"
	disks  = "io"
)

// maxDisks bounds the disks of one request: each is a write to the kernel before the start.
const maxDisks = 64

// settings translates limits into the files of a control group.
func settings(l *wire.GroupLimits) (all []proc.Setting, err error) {
	if l == nil {
		return nil, nil
	}
	add := func(controller, file, name, text string) {
		all = append(all, proc.Setting{Controller: controller, File: file, Text: text, Name: name})
	}
	number := func(controller, file, name string, v *uint64) {
		if v != nil {
			add(controller, file, name, strconv.FormatUint(*v, 10))
		}
	}
	// The hard limit of memory is last: the others are in force when it is.
	number(memory, "memory.swap.max", "swap_max", l.SwapMax)
	number(memory, "memory.high", "memory_high", l.MemoryHigh)
	number(memory, "memory.max", "memory_max", l.MemoryMax)
	number(pids, "pids.max", "pids_max", l.PIDsMax)
	if l.CPUWeight != nil {
		add(cpu, "cpu.weight", "cpu_weight", strconv.Itoa(int(*l.CPUWeight)))
	}
	if text := quota(l); text != "" {
		add(cpu, "cpu.max", "cpu_quota_us", text)
	}
	if len(l.IO) > maxDisks {
		return nil, &proc.StartError{Stage: proc.StageGroup, Name: "io", Err: syscall.E2BIG}
	}
	for _, limit := range l.IO {
		text, err := ioLimit(limit)
		if err != nil {
			return nil, err
		}
		add(disks, "io.max", "io of "+limit.Device, text)
	}
	return all, nil
}

// quota is the text of cpu.max; "" without a limit.
func quota(l *wire.GroupLimits) string {
	const period = 100_000 // Microseconds; the kernel's default.
	switch {
	case l.CPUQuota == nil && l.CPUPeriod == nil:
		return ""
	case l.CPUQuota == nil:
		return fmt.Sprintf("max %d", *l.CPUPeriod)
	case l.CPUPeriod == nil:
		return fmt.Sprintf("%d %d", *l.CPUQuota, period)
	}
	return fmt.Sprintf("%d %d", *l.CPUQuota, *l.CPUPeriod)
}

// ioLimit is the text of io.max for one disk.
func ioLimit(l wire.IOLimit) (string, error) {
	major, minor, ok := strings.Cut(l.Device, ":")
	if _, err := strconv.ParseUint(major, 10, 32); err != nil || !ok {
		return "", badDevice(l.Device)
	}
	if _, err := strconv.ParseUint(minor, 10, 32); err != nil {
		return "", badDevice(l.Device)
	}
	var b strings.Builder
	b.WriteString(l.Device)
	for _, v := range []struct {
		key   string
		value *uint64
	}{{"rbps", l.ReadBytes}, {"wbps", l.WriteBytes}, {"riops", l.ReadOps}, {"wiops", l.WriteOps}} {
		if v.value != nil {
			fmt.Fprintf(&b, " %s=%d", v.key, *v.value)
		}
	}
	return b.String(), nil
}

// errDevice says which form the number of a disk has.
var errDevice = errors.New("not MAJOR:MINOR")

func badDevice(name string) error {
	return &proc.StartError{Stage: proc.StageGroup, Name: "io: device " + quote(name), Err: errDevice}
}

// usage reads what a command took. It is nil if the command had no group of its own.
func usage(c *proc.Child) *wire.ExecUsage {
	group := c.Group()
	if group == nil {
		return nil
	}
	read := func(file string) string {
		text, _ := group.Get(file) // Files that the kernel lacks are not counted.
		return text
	}
	var u wire.ExecUsage
	stat := read("cpu.stat")
	u.CPUUser, _ = figure(stat, "user_usec")
	u.CPUSystem, _ = figure(stat, "system_usec")
	if n, err := strconv.ParseUint(strings.TrimSpace(read("memory.peak")), 10, 64); err == nil {
		u.MemoryPeak = &n
	}
	if text, err := group.Get("io.stat"); err == nil {
		u.ReadBytes, u.WriteBytes = new(sum(text, "rbytes=")), new(sum(text, "wbytes="))
	}
	if u.OOMKills, _ = figure(read("memory.events"), "oom_kill"); u.OOMKills > 0 {
		for _, v := range sys.Killed(group.Path()) {
			u.Victims = append(u.Victims, wire.OOMVictim{PID: uint32(v.PID), Name: wire.ValidText(v.Name)})
		}
	}
	return &u
}

// figure returns the number after a key at the beginning of a line.
func figure(text, key string) (uint64, bool) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key+" "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// sum adds the numbers after a key, one of each disk.
func sum(text, key string) (total uint64) {
	for word := range strings.FieldsSeq(text) {
		if value, ok := strings.CutPrefix(word, key); ok {
			n, _ := strconv.ParseUint(value, 10, 64)
			total += n
		}
	}
	return total
}
