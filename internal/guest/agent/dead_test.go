package agent_test

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// deadMount makes a small root in which /mnt is a file system whose server never
// answers; what was asked of it fails when the test ends.
func deadMount(t *testing.T) {
	t.Helper()
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a file system of its own: %v", err)
	}
	t.Cleanup(func() { _ = server.Close() })
	nstest.Root(t)
	options := "fd=" + strconv.Itoa(int(server.Fd())) + ",rootmode=40000,user_id=0,group_id=0"
	if err := syscall.Mount("dead", "/mnt", "fuse", 0, options); err != nil {
		t.Fatal(err)
	}
}

// Operations on a dead mount delay neither other clients nor anything but files
// of their own client, in any number.
//
//holds:wire 9: a fifo, a slow disk, a dead mount delay nobody
func TestDeadMountDelaysNobody(t *testing.T) {
	nstest.Run(t, func() {
		deadMount(t)
		h := newHost(t, config{})
		const requests, other = 200, 0x02000000
		for id := range uint32(requests) {
			h.send(id+300, &wire.FSRequest{Op: &wire.OpStat{Path: "/mnt/x"}})
		}
		if took := h.ping(); took > prompt {
			t.Errorf("a ping took %v", took)
		}
		if got := h.say("echo beside"); got != "beside\n" {
			t.Errorf("a command said %q", got)
		}
		h.send(other, &wire.FSRequest{Op: &wire.OpStat{Path: "/tmp"}})
		if _, r := h.response(other); !r.OK {
			t.Errorf("another client: %s", contract.Outcome(r))
		}
		// Operations that wait for a place end with the client, and so do those that hang.
		start, end := frame.SlotRange(0)
		h.send(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		h.pingOther(other + 7)
		h.send(1, &wire.FSRequest{Op: &wire.OpStat{Path: "/tmp"}})
		if _, r := h.response(1); !r.OK {
			t.Errorf("the next client: %s", contract.Outcome(r))
		}
		if n := h.kept(start, end); n != 0 {
			t.Errorf("%d frames for a client that has gone", n)
		}
	})
}

// A program on a dead mount holds up nothing else, not even the collector, which has
// to stop every thread of the agent for a moment; a second one, the starts behind it.
func TestDeadProgramDelaysOnlyStarts(t *testing.T) {
	nstest.Run(t, func() {
		deadMount(t)
		h := newHost(t, config{})
		h.send(1, &wire.ExecRequest{Cmd: "/mnt/program"})
		h.send(0x02000000, &wire.FSRequest{Op: &wire.OpStat{Path: "/tmp"}})
		if _, r := h.response(0x02000000); !r.OK {
			t.Errorf("another client: %s", contract.Outcome(r))
		}
		if got := h.say("echo beside"); got != "beside\n" {
			t.Errorf("a command said %q", got)
		}
		h.send(2, &wire.ExecRequest{Cmd: "/mnt/program"})
		for range 3 {
			runtime.GC()
			if took := h.ping(); took > prompt {
				t.Errorf("a ping took %v", took)
			}
		}
	})
}

// The same for a command whose directory is there.
func TestDeadDirectoryDelaysOnlyStarts(t *testing.T) {
	nstest.Run(t, func() {
		deadMount(t)
		h := newHost(t, config{})
		dir := "/mnt/dir"
		h.send(1, &wire.ExecRequest{Cmd: "/bin/true", Cwd: &dir})
		h.send(2, sh("echo beside"))
		for range 3 {
			runtime.GC()
			if took := h.ping(); took > prompt {
				t.Errorf("a ping took %v", took)
			}
		}
	})
}
