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

func (c *counter) freeze(attempt string) {
	c.t.Helper()
	c.bare(&wire.WorkloadFreeze{AttemptID: attempt, HostInput: c.sent})
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
