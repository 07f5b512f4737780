package agent_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// waitGone waits until a process has ended and its end has been taken.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "process "+strconv.Itoa(pid)+" ends", func() bool {
		_, err := os.Stat("/proc/" + strconv.Itoa(pid))
		return err != nil
	})
}

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

// cpuTimes are the processor times of all processes but this one.
func cpuTimes(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		if c := e.Name()[0]; c < '0' || c > '9' || e.Name() == "1" {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/schedstat") // Nanoseconds run and waited.
		if err == nil {
			all.WriteString(e.Name() + " " + string(b))
		}
	}
	return all.String()
}
