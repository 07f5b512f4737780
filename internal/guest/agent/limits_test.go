package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// where prints the control group of the shell that runs it.
const where = "sed -n 's/^0:://p' /proc/self/cgroup"

// cells lists the control groups in a control group.
func cells(group string) (names []string) {
	entries, _ := os.ReadDir(group) // A group that is gone has none.
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// group is the path of the workload's control group.
func (c *counter) group() string {
	c.t.Helper()
	c.freezer()
	at := strings.TrimSpace(c.say(where))
	return "/sys/fs/cgroup" + at[:strings.LastIndex(at, "/")]
}

// Every command runs in a control group of its own, below the workload's. A group whose
// command left nothing is used again, and what commands leave is removed when it has ended.
func TestCommandsHaveControlGroups(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		group := c.group()
		first := c.say(where)
		for range 30 {
			if again := c.say(where); again != first {
				t.Fatalf("a command runs in %q, the one before ran in %q", again, first)
			}
		}
		for i := range 20 {
			c.say(fmt.Sprintf("sleep %d >/dev/null 2>&1 </dev/null &", 1000+i))
		}
		if n := len(cells(group)); n < 20 || n > 22 {
			t.Errorf("%d groups for 20 daemons", n)
		}
		for _, pid := range running(t, "sleep") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the end of the groups", func() bool {
			c.say("true")
			return len(cells(group)) <= 2
		})
	})
}

// A group that a command has changed is no other command's.
func TestControlGroupsAreNotInherited(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		for _, change := range []string{
			"mkdir -p $g/a/b",
			"mkdir $g/a; echo $$ > $g/a/cgroup.procs",
			"mkdir $g/t; echo threaded > $g/t/cgroup.type",
			"echo 1 > $g/cgroup.freeze", // Ends by the signal below.
		} {
			c.put(2, sh("g=/sys/fs/cgroup$("+where+"); echo; "+change))
			c.take("output", func(f received) bool { return f.ID == 2 && f.Type == wire.TypeExecStdout })
			if strings.Contains(change, "freeze") {
				eventually(t, "the freeze", func() bool { return frozen(c.pids()) })
				c.put(2, &wire.ExecSignal{Signal: 9})
			}
			c.collect(2)
			if got := c.say("echo well"); got != "well\n" {
				t.Errorf("after %q a command says %q", change, got)
			}
		}
	})
}

// pids are the processes below this one.
func (c *counter) pids() []string {
	c.t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// frozen reports whether one of the processes is in a frozen group.
func frozen(files []string) bool {
	return slices.ContainsFunc(files, func(name string) bool {
		b, _ := os.ReadFile(name) // It may have ended.
		_, at, _ := strings.Cut(string(b), "0::")
		events, _ := os.ReadFile("/sys/fs/cgroup" + strings.TrimSpace(at) + "/cgroup.events")
		return strings.Contains(string(events), "frozen 1")
	})
}

// running lists the processes of a program that have not ended.
func running(t *testing.T, program string) (all []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		b, _ := os.ReadFile(name) // It may have ended.
		if f := strings.Fields(string(b)); len(f) > 2 && f[1] == "("+program+")" && f[2] != "Z" {
			pid, _ := strconv.Atoi(f[0])
			all = append(all, pid)
		}
	}
	return all
}

// A signal to the tree reaches what has left the command's process group and session.
func TestTreeIsKilled(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		c.put(3, &wire.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "setsid sh -c 'sleep 1234 & setsid sleep 1234 & echo up; sleep 1234' & sleep 1234"}})
		c.take("output", func(f received) bool { return f.ID == 3 && f.Type == wire.TypeExecStdout })
		c.put(3, &wire.ExecSignal{Signal: 9, Tree: true})
		c.collect(3) // Its outputs end only with the daemons.
		eventually(t, "no daemon is left", func() bool { return running(t, "sleep") == nil })
		if got := c.say("echo well"); got != "well\n" { // Its group is not the killed one.
			t.Errorf("the next command says %q", got)
		}
	})
}

// Without control groups nothing is announced, limits are refused with the reason, and the
// rest works as it does without.
func TestLimitsWithoutControlGroups(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port, ours := link(t)
		h := attach(t, ours)
		h.serve(agent.Open(port), port, config{})
		ready, ok := h.next(0).Message.(*wire.Ready)
		if !ok || slices.Contains(ready.Extensions, wire.ExtensionLimits) {
			t.Errorf("ready %+v", ready)
		}
		limited := &wire.ExecRequest{Cmd: "/bin/true", Limits: &wire.GroupLimits{PIDsMax: new(uint64(9))}}
		if r := h.run(limited); r.failed == nil || r.failed.Kind != wire.FailureResourceLimit || !strings.Contains(r.failed.Message, `limit "pids_max"`) {
			t.Errorf("result %+v", r)
		}
		h.send(4, &wire.ExecRequest{Cmd: "/bin/sleep", Args: []string{"1000"}, ReportUsage: true})
		h.send(4, &wire.ExecSignal{Signal: 9, Tree: true})
		if r := h.collect(4); r.code != -1 {
			t.Errorf("result %+v", r)
		}
	})
}

// A limit that the kernel cannot set is refused, and nothing runs.
func TestLimitsAreRefused(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		have, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		if err != nil {
			t.Fatal(err)
		}
		for name, l := range map[string]*wire.GroupLimits{
			"memory_max": {MemoryMax: new(uint64(64 << 20))},
			"pids_max":   {PIDsMax: new(uint64(9))},
			"io: device": {IO: []wire.IOLimit{{Device: "8:0\nmax", ReadOps: new(uint64(1))}}},
		} {
			controller, _, _ := strings.Cut(name, "_")
			if slices.Contains(strings.Fields(string(have)), controller) {
				continue // Another kernel's; machines show these.
			}
			c.put(5, &wire.ExecRequest{Cmd: "/bin/touch", Args: []string{"/tmp/ran"}, Limits: l})
			r := c.collect(5)
			if r.failed == nil || r.failed.Kind != wire.FailureResourceLimit || !strings.Contains(r.failed.Message, name) {
				t.Errorf("%s: %+v", name, r.failed)
			}
		}
		if _, err := os.Stat("/tmp/ran"); err == nil {
			t.Error("a refused command ran")
		}
	})
}
