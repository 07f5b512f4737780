package exec

import (
	"regexp"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

// forms are the texts that the kernel is given, by the name of their file.
var forms = map[string]*regexp.Regexp{
	"memory.max":      regexp.MustCompile(`^\d+$`),
	"memory.high":     regexp.MustCompile(`^\d+$`),
	"memory.swap.max": regexp.MustCompile(`^\d+$`),
	"pids.max":        regexp.MustCompile(`^\d+$`),
	"cpu.weight":      regexp.MustCompile(`^\d+$`),
	"cpu.max":         regexp.MustCompile(`^(\d+|max) \d+$`),
	"io.max":          regexp.MustCompile(`^\d+:\d+( (rbps|wbps|riops|wiops)=\d+)*$`),
}

// FuzzLimits: whatever limits a host asks for, the kernel gets one line of the file's form.
func FuzzLimits(f *testing.F) {
	f.Add("8:0", uint64(1), uint64(2), byte(0xff))
	f.Add("8:0\nmax", uint64(0), ^uint64(0), byte(0x2a))
	f.Add("+8:1 rbps=1", uint64(7), uint64(100000), byte(0x15))
	f.Fuzz(func(t *testing.T, device string, a, b uint64, which byte) {
		pick := func(bit int, v uint64) *uint64 {
			if which>>bit&1 == 0 {
				return nil
			}
			return &v
		}
		all, err := settings(&wire.GroupLimits{
			MemoryMax: pick(0, a), MemoryHigh: pick(1, b), SwapMax: pick(2, a), CPUQuota: pick(3, b), CPUPeriod: pick(4, a),
			CPUWeight: new(uint16(a)), PIDsMax: pick(5, b), IO: []wire.IOLimit{{Device: device, ReadBytes: pick(6, a), WriteOps: pick(7, b)}},
		})
		if err != nil && all != nil {
			t.Errorf("%v with an error, %v", all, err)
		}
		for _, s := range all {
			if form := forms[s.File]; form == nil || !form.MatchString(s.Text) || !strings.HasPrefix(s.File, s.Controller+".") {
				t.Errorf("%s gets %q", s.File, s.Text)
			}
		}
	})
}

// What the kernel writes is read by its keys, and what is not there is no figure.
func TestFigures(t *testing.T) {
	t.Parallel()
	const stat = "usage_usec 123\nuser_usec 100\nsystem_usec 23\n"
	if n, ok := figure(stat, "user_usec"); n != 100 || !ok {
		t.Errorf("user_usec is %d, %v", n, ok)
	}
	if n, ok := figure(stat, "usec"); ok {
		t.Errorf("usec is %d", n)
	}
	const disks = "254:0 rbytes=512 wbytes=1024 rios=1 wios=1 dbytes=0 dios=0\n254:16 rbytes=8 wbytes=0\n"
	if r, w := sum(disks, "rbytes="), sum(disks, "wbytes="); r != 520 || w != 1024 {
		t.Errorf("read %d, written %d", r, w)
	}
}
