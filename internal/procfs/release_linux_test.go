package procfs

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const smaps = `00400000-00500000 r-xp 00000000 08:01 7                                  /bin/shim (deleted)
Size:               1024 kB
Private_Dirty:         8 kB
Anonymous:             0 kB
Swap:                  0 kB
00500000-00600000 r--p 00100000 08:01 7                                  /bin/shim (deleted)
Private_Dirty:         4 kB
Anonymous:             4 kB
00a00000-00b00000 r--p 00100000 08:01 7                                  /bin/shim (deleted)
Anonymous:             0 kB
Swap:                  4 kB
00600000-00700000 rw-p 00200000 08:01 7                                  /bin/shim (deleted)
Private_Dirty:         0 kB
00700000-00800000 r--p 00000000 08:01 8                                  /bin/other
Private_Dirty:         0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Private_Dirty:         0 kB
00800000-00900000 r--p 00200000 08:01 7                                  /bin/shim (deleted)
Private_Dirty:         0 kB
VmFlags: rd mr mw me sd
7ffd00000000-7ffd00021000 r-xp 00000000 00:00 0                          [vdso]
Private_Dirty:         0 kB
`

// Only what is the file's alone may go: a page that was written to would be lost.
func TestCleanMappings(t *testing.T) {
	got, err := mappingsOf(smaps, 0x400010)
	var ranges []string
	for _, m := range got {
		if m.clean() {
			ranges = append(ranges, fmt.Sprintf("%x-%x", m.Start, m.End))
		}
	}
	if all := strings.Join(ranges, " "); err != nil || all != "400000-500000 800000-900000" {
		t.Errorf("got %s, %v", all, err)
	}
	for _, bad := range []string{"x\n", "400000-g r-xp 0 00:02 17\n", "g-400000 r-xp 0 00:02 17\n", "400000-500000 r 0 00:02 17\n"} {
		if _, err := mappingsOf(bad, 0); err == nil || !strings.Contains(err.Error(), strings.Fields(bad)[0]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// After a release the program goes on, with fewer pages of its file.
func TestReleaseProgram(t *testing.T) {
	mapped := func() (kib int) {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"RssFile:", "RssShmem:"} { // Of a disk, or of a tmpfs.
			_, text, _ := strings.Cut(string(b), kind)
			var n int
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatal(kind, err)
			}
			kib += n
		}
		return kib
	}
	before := mapped()
	if err := ReleaseProgram(); err != nil {
		t.Fatal(err)
	}
	if after := mapped(); after >= before {
		t.Errorf("%d KiB of the file are mapped, were %d", after, before)
	}
}
