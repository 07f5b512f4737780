package procfs

import (
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// A System holds the figures of a whole machine at one moment. Counters start at its
// boot.
type System struct {
	Uptime   time.Duration `json:"uptime_ns"`
	CPUs     int           `json:"cpus"`
	Busy     time.Duration `json:"cpu_busy_ns"` // Sum over all CPUs.
	Load     [3]float64    `json:"load"`
	Memory   Memory        `json:"memory"`
	Pressure Pressures     `json:"pressure"`
	Disks    Traffic       `json:"disks"`
	Network  Traffic       `json:"network"` // Without the loopback device.
}

// Memory holds sizes in bytes.
type Memory struct {
	Total     int64 `json:"total_bytes"`
	Free      int64 `json:"free_bytes"`
	Available int64 `json:"available_bytes"`
	Cached    int64 `json:"cached_bytes"`
}

// Used is the memory that is not available to commands.
func (m Memory) Used() int64 { return m.Total - m.Available }

// Pressures holds the pressure of the three resources.
type Pressures struct {
	CPU    Pressure `json:"cpu"`
	Memory Pressure `json:"memory"`
	IO     Pressure `json:"io"`
}

// A Pressure is the share of the last ten seconds in which some or all tasks waited for
// a resource, in percent.
type Pressure struct {
	Some float64 `json:"some_percent"`
	Full float64 `json:"full_percent"`
}

// A Traffic holds counters in bytes.
type Traffic struct {
	In  int64 `json:"in_bytes"`  // Bytes read or received.
	Out int64 `json:"out_bytes"` // Bytes written or sent.
}

// Look returns the machine's figures. fsys has /proc at "proc".
func Look(fsys fs.FS) (s System, err error) {
	for _, part := range []struct {
		name string
		read func(text string)
	}{
		{"uptime", s.readUptime},
		{"stat", s.readStat},
		{"loadavg", s.readLoad},
		{"meminfo", s.readMemory},
		{"pressure/cpu", s.Pressure.CPU.read},
		{"pressure/memory", s.Pressure.Memory.read},
		{"pressure/io", s.Pressure.IO.read},
		{"diskstats", s.readDisks},
		{"net/dev", s.readNetwork},
	} {
		text, err := optional(fsys, "proc/"+part.name)
		if err != nil {
			return s, err
		}
		part.read(string(text))
	}
	return s, nil
}

func (s *System) readUptime(text string) {
	seconds, _ := strconv.ParseFloat(first(text), 64)
	s.Uptime = time.Duration(seconds * float64(time.Second))
}

func first(text string) string {
	if f := strings.Fields(text); len(f) > 0 {
		return f[0]
	}
	return ""
}

// readStat adds up the ticks in the first line. It skips idle and disk wait (the fourth
// and fifth numbers), and guest time, which the first two numbers include.
func (s *System) readStat(text string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			s.CPUs++
			continue
		}
		const idle, wait, guest = 4, 5, 9
		for i := 1; i < min(len(f), guest); i++ {
			if i != idle && i != wait {
				s.Busy += time.Duration(number(f[i])) * tick
			}
		}
	}
}

func (s *System) readLoad(text string) {
	f := strings.Fields(text)
	for i := range min(len(f), len(s.Load)) {
		s.Load[i], _ = strconv.ParseFloat(f[i], 64)
	}
}

func (s *System) readMemory(text string) {
	kib := func(name string) int64 { return number(field([]byte(text), name)) << 10 }
	s.Memory = Memory{kib("MemTotal:"), kib("MemFree:"), kib("MemAvailable:"), kib("Cached:")}
}

func (p *Pressure) read(text string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		value, _ := strconv.ParseFloat(strings.TrimPrefix(f[1], "avg10="), 64)
		switch f[0] {
		case "some":
			p.Some = value
		case "full":
			p.Full = value
		}
	}
}

// readDisks counts only whole virtio disks, which machines have: a disk's sectors
// include those of its partitions.
func (s *System) readDisks(text string) {
	const sector, fields = 512, 10
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < fields || !strings.HasPrefix(f[2], "vd") || strings.ContainsAny(f[2], "0123456789") {
			continue
		}
		s.Disks.In += number(f[5]) * sector
		s.Disks.Out += number(f[9]) * sector
	}
}

func (s *System) readNetwork(text string) {
	const fields = 9
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(f) < fields {
			continue
		}
		s.Network.In += number(f[0])
		s.Network.Out += number(f[8])
	}
}
