package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

func (c *counter) freeze(attempt string, tags ...string) {
	c.t.Helper()
	c.bare(&wire.WorkloadFreeze{AttemptID: attempt, HostInput: c.sent, ExternalMountTags: tags})
}

func (c *counter) thaw(attempt string, mode wire.ThawMode) {
	c.t.Helper()
	c.bare(&wire.WorkloadThaw{AttemptID: attempt, Mode: mode})
}

// frozen takes the answer to a freeze.
func (c *counter) frozen(attempt string) *wire.WorkloadFrozen {
	c.t.Helper()
	m := c.word()
	f, ok := m.(*wire.WorkloadFrozen)
	if !ok || f.AttemptID != attempt {
		c.t.Fatalf("freeze: %+v", m)
	}
	return f
}

func (c *counter) thawed(attempt string) {
	c.t.Helper()
	m := c.word()
	if f, ok := m.(*wire.WorkloadThawed); !ok || f.AttemptID != attempt {
		c.t.Fatalf("thaw: %+v", m)
	}
}

// silent is an error if anything comes while nothing may. Only time can show that.
func (c *counter) silent(what string) {
	c.t.Helper()
	before := c.kept(0, wire.WorkloadID)
	<-time.After(300 * time.Millisecond)
	if after := c.kept(0, wire.WorkloadID); after != before {
		c.t.Errorf("%s: %d frames", what, after-before)
	}
}

// Between freeze and thaw nothing runs and nothing is said, and nothing is lost.
//
//holds:wire 15: no output between frozen and thawed; nothing is lost
func TestFreeze(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		const lines = 3000
		c.put(1, sh("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"))
		c.put(2, sh("setsid sh -c 'while :; do echo x; done' & exec sleep 1000"))
		want[*wire.ExecStarted](c.host, 1)
		want[*wire.ExecStarted](c.host, 2)
		for range 5 {
			c.freeze("a1")
			f := c.frozen("a1")
			if f.InputCredit != limitOf(c.sent, wire.TransportCounters{}) || !f.ExternalMountsSynced || f.GuestBulkBytesTarget != 0 {
				t.Errorf("%+v for %+v", f, c.sent)
			}
			c.silent("frozen")
			c.freeze("a1") // The same answer again.
			if again := c.frozen("a1"); again.InputCredit != f.InputCredit {
				t.Errorf("%+v, and again %+v", f, again)
			}
			c.thaw("a1", wire.ThawContinue)
			c.thawed("a1")
			c.put(3, &wire.Ping{})
			want[*wire.Pong](c.host, 3)
		}
		c.thaw("a1", wire.ThawContinue) // Again.
		c.thawed("a1")
		var all []byte
		for {
			f := c.next(1)
			if m, ok := f.Message.(*wire.ExecStdout); ok {
				all = append(all, m.Data...)
			} else {
				break
			}
		}
		if got := strings.Count(string(all), "\n"); got != lines {
			t.Errorf("%d lines of %d", got, lines)
		}
		c.put(2, &wire.ExecSignal{Signal: 9})
	})
}

// A freeze waits for the data that is on its way, and can be given up.
func TestFreezeWaits(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		c.put(1, sh("read a; echo $a; exec sleep 1000"))
		want[*wire.ExecStarted](c.host, 1)
		late := &wire.ExecStdin{Data: []byte("late\n")}
		n := len(bytesOf(t, nine, 1, late))
		ahead := c.sent
		ahead.BulkBytes += uint64(n)
		ahead.BulkFrames++
		early := &wire.WorkloadFreeze{AttemptID: "w", HostInput: ahead}
		c.bare(early)
		c.bare(early)
		c.refused("the same again", wire.ErrorInvalidSession, "workload latch conflict: another transport cut is pending", "recovery_required")
		c.thaw("w", wire.ThawRestore)
		c.refused("restore", wire.ErrorInvalidSession, "restore requires a completed transport cut", "recovery_required")
		c.thaw("v", wire.ThawContinue)
		c.refused("other", wire.ErrorInvalidSession, `attempt "w" owns the freeze`, "recovery_required")
		c.thaw("w", wire.ThawContinue)
		c.refused("given up", wire.ErrorInvalidSession, "transport cut aborted by source continuation", "recovery_required")
		c.thawed("w")
		c.bare(early)
		c.put(1, late)
		c.frozen("w")
		c.thaw("w", wire.ThawContinue)
		c.thawed("w")
		if m := want[*wire.ExecStdout](c.host, 1); string(m.Data) != "late\n" {
			t.Errorf("%q", m.Data)
		}
		c.put(1, &wire.ExecSignal{Signal: 9})
	})
}

// Each slip has its error, and leaves the machine as it was.
func TestFreezeRefuses(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		const conflict, recovery = "workload latch conflict: ", "recovery_required"
		wrong := c.sent
		wrong.ControlFrames++
		c.bare(&wire.WorkloadFreeze{AttemptID: "a", HostInput: wrong})
		c.refused("counters", wire.ErrorInvalidSession, conflict+"transport input cut differs from received complete frames", recovery)
		for _, bad := range []string{"", "a b", "ä", strings.Repeat("x", 129)} {
			c.freeze(bad)
			c.refused("name", wire.ErrorInvalidPayload, "invalid checkpoint attempt identity", recovery)
			c.thaw(bad, wire.ThawContinue)
			c.refused("name", wire.ErrorInvalidPayload, "must be 1-128 printable ASCII bytes without spaces", recovery)
		}
		c.thaw("a", wire.ThawContinue)
		c.refused("nothing", wire.ErrorInvalidSession, "no matching workload freeze is active", recovery)
		c.freeze("a", "unknown")
		if c.frozen("a").ExternalMountsSynced {
			t.Error("an unknown mount was synced")
		}
		c.bare(&wire.WorkloadFreeze{AttemptID: "a", HostInput: wrong})
		c.refused("change", wire.ErrorInvalidSession, conflict+"frozen transport cut cannot change", recovery)
		c.freeze("b")
		c.refused("other", wire.ErrorInvalidSession, conflict+"restore requires its matching active freeze", recovery)
		c.thaw("b", wire.ThawContinue)
		c.refused("other", wire.ErrorInvalidSession, `attempt "a" owns the freeze`, recovery)
		c.put(9, &wire.Ping{}) // It crosses the cut: an error, and the machine goes on.
		if m := want[*wire.ProtocolError](c.host, 9); !strings.Contains(m.Message, "ordinary input crossed the frozen transport cut") {
			t.Errorf("%q", m.Message)
		}
		c.thaw("a", wire.ThawContinue)
		c.thawed("a")
		c.thaw("a", wire.ThawRestore)
		c.refused("restore after continue", wire.ErrorInvalidSession, conflict+"restore requires its matching active freeze", recovery)
		c.freeze("a", "path:/", "path:/proc")
		if !c.frozen("a").ExternalMountsSynced {
			t.Error("mounts were not synced")
		}
		c.thaw("a", wire.ThawContinue)
		c.thawed("a")
	})
}

// After a restore the host's side is gone and the commands are not.
func TestThawRestore(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		c.put(1, sh("cat >/tmp/input; echo over >>/tmp/input; yes | head -c 10000000 >/dev/stderr; echo done >/tmp/done"), &wire.ExecStdin{Data: []byte("words\n")})
		want[*wire.ExecStarted](c.host, 1)
		c.put(2, &wire.FSRequest{Op: &wire.OpOpenFile{Path: "/etc/passwd", Options: wire.OpenOptions{Read: true}}})
		want[*wire.FSResponse](c.host, 2)
		c.settled(wire.TransportCounters{})
		c.freeze("r")
		c.frozen("r")
		c.thaw("r", wire.ThawRestore)
		c.thawed("r")
		c.thaw("r", wire.ThawRestore)
		c.thawed("r")
		c.put(1, &wire.ExecSignal{Signal: 9}) // For nobody.
		c.put(2, &wire.FSRequest{Op: &wire.OpRead{Handle: 1}})
		if m := want[*wire.FSResponse](c.host, 2); m.OK {
			t.Error("a handle is still there")
		}
		c.put(1, sh("while ! [ -e /tmp/done ]; do sleep 0.05; done; cat /tmp/input"))
		if r := c.collect(1); string(r.stdout) != "words\nover\n" {
			t.Errorf("%q", r.stdout)
		}
		c.freeze("s") // The totals go on.
		c.frozen("s")
		c.thaw("s", wire.ThawContinue)
		c.thawed("s")
	})
}

// A host can end a machine that is frozen.
func TestShutdownWhileFrozen(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.freezer()
		c.put(1, sh("exec sleep 1000"))
		want[*wire.ExecStarted](c.host, 1)
		c.freeze("a")
		c.frozen("a")
		c.put(0, &wire.Shutdown{})
		if s := c.wait(); s.end != agent.Shutdown || s.err != nil {
			t.Errorf("%+v", s)
		}
		c.agent.Finish(patience)
	})
}

// Without a control group a freeze says what is missing, and changes nothing.
func TestFreezeUnavailable(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := &counter{host: newHost(t, config{generation: nine})}
		c.freeze("a")
		c.refused("no group", wire.ErrorUnavailable, "workload freezer", "unavailable")
		c.put(1, &wire.Ping{})
		want[*wire.Pong](c.host, 1)
		start, _ := frame.SlotRange(2)
		c.put(start, &wire.WorkloadFreeze{AttemptID: "a", HostInput: c.sent}) // On another id it is counted itself.
		if m := want[*wire.ProtocolError](c.host, start); !strings.Contains(m.Message, "differs") {
			t.Errorf("%q", m.Message)
		}
	})
}

// A root that is on no disk of ours does not grow, and says so.
//
//holds:wire 16: without a block root both are refused
func TestGrowWithoutDisk(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		for _, m := range []wire.Message{&wire.RootDiskPrepare{SizeBytes: 1 << 30}, &wire.RootDiskGrow{SizeBytes: 1 << 30}} {
			c.put(5, m)
			e := want[*wire.ProtocolError](c.host, 5)
			if e.Kind != wire.ErrorUnavailable || e.Message != "root has no pinned block filesystem" || e.OffendingType != m.Type() || e.WorkloadFailure != nil {
				t.Errorf("%+v", e)
			}
		}
	})
}
