package sys_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// What is in memory of the program stays there, and nothing else is bound to it.
func TestKeepProgram(t *testing.T) {
	locked := func() string {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		return string(regexp.MustCompile(`VmLck:\s+(\d+) kB`).FindSubmatch(b)[1])
	}
	if n := locked(); n != "0" {
		t.Skipf("%s kB are locked before", n)
	}
	if err := sys.KeepProgram(); err != nil {
		t.Skip(err) // RLIMIT_MEMLOCK of an ordinary user.
	}
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if n := locked(); n == "0" || len(n) > len("100000") || info.Size() == 0 {
		t.Errorf("%s kB are locked of a program of %d bytes", n, info.Size())
	}
}
