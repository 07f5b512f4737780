// The race detector makes calls and takes memory of its own.
//go:build !race

package agent_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// TestResident holds the resident memory of an agent after a load: floods, input that nobody
// takes for a while, many commands.
func TestResident(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port, ours := link(t)
		pid, err := syscall.ForkExec("/proc/self/exe", []string{countedName}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2, port.Fd()}})
		if err != nil {
			t.Fatal(err)
		}
		_ = port.Close()
		h := attach(t, ours)
		if _, ok := h.next(0).Message.(*wire.Ready); !ok {
			t.Fatal("the first frame is not core.ready")
		}
		const floods, input = 12, 6 << 20
		for id := range uint32(floods) {
			h.send(id+1, sh("dd if=/dev/zero bs=1M count=6 2>/dev/null"))
		}
		h.send(100, sh("sleep 1; cat >/dev/null"))
		h.input(100, make([]byte, input), 32<<10)
		for id := range uint32(floods) {
			waitExit(h, id+1, 0)
		}
		waitExit(h, 100, 0)
		const most = 8 << 10 // KiB.
		deadline := time.Now().Add(patience)
		for {
			now := resident(t, pid)
			if now <= most {
				t.Logf("%d KiB, at its peak %d", now, memoryOf(t, pid, "VmHWM"))
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d KiB are resident, want at most %d:\n%s", now, most, status(t, pid))
			}
			<-time.After(50 * time.Millisecond) // The agent looks once a second.
		}
	})
}

func resident(t *testing.T, pid int) int { t.Helper(); return memoryOf(t, pid, "VmRSS") }

func status(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// memoryOf is a figure of a process in KiB.
func memoryOf(t *testing.T, pid int, key string) int {
	t.Helper()
	_, rest, _ := strings.Cut(status(t, pid), key+":")
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest[:strings.IndexByte(rest, '\n')]), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
