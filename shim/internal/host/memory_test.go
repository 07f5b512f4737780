package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const smaps = `00400000-00500000 r-xp 00000000 08:01 7                                  /bin/shim
Size:               1024 kB
Private_Dirty:         0 kB
00500000-00600000 r--p 00100000 08:01 7                                  /bin/shim
Private_Dirty:         4 kB
00600000-00700000 rw-p 00200000 08:01 7                                  /bin/shim
Private_Dirty:         0 kB
00700000-00800000 r--p 00000000 08:01 8                                  /bin/other
Private_Dirty:         0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Private_Dirty:         0 kB
00800000-00900000 r--p 00200000 08:01 7                                  /bin/shim
Private_Dirty:         0 kB
VmFlags: rd mr mw me sd
`

// Only what is the file's alone may go: a page that was written to would be lost.
func TestCleanMappings(t *testing.T) {
	name := filepath.Join(t.TempDir(), "smaps")
	if err := os.WriteFile(name, []byte(smaps), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := cleanMappings(f, "/bin/shim")
	if want := []mapping{{0x400000, 0x500000}, {0x800000, 0x900000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
	if err := LetGo(); err != nil { // This program goes on after it.
		t.Error(err)
	}
}
