package sys

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The mappings of the program that nobody can write to are found, and no others.
func TestProgramMappings(t *testing.T) {
	const maps = `00400000-00600000 r-xp 00000000 00:02 17                                 /init (deleted)
00600000-00700000 r--p 00200000 00:02 17                                 /init (deleted)
00700000-00720000 rw-p 00300000 00:02 17                                 /init (deleted)
00720000-00760000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r--p 00000000 00:02 18                         /other
7ffd00000000-7ffd00021000 r-xp 00000000 00:00 0                          [vdso]
`
	got, err := programMappings(maps, 0x400010)
	if want := []mapping{{0x400000, 0x600000}, {0x600000, 0x700000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
	for _, bad := range []string{"x\n", "400000-g r-xp 0 00:02 17\n", "g-400000 r-xp 0 00:02 17\n", "400000-500000 r 0 00:02 17\n"} {
		if _, err := programMappings(bad, 0); err == nil || !strings.Contains(err.Error(), "/proc/self/maps") {
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
