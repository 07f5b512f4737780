package agent_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

const (
	nine wire.Generation = 9

	// What a host may send at first (protocol section 15.1).
	firstControl, firstBulk, firstFrames = 8 << 20, 32 << 20, 256
)

// A counter is a host of generation 9, which counts what it sends.
type counter struct {
	*host
	sent wire.TransportCounters
}

// newCounter starts an agent whose commands can be frozen.
func newCounter(t *testing.T) *counter {
	t.Helper()
	nstest.Root(t)
	return &counter{host: newHost(t, config{generation: nine, group: workload(t)})}
}

// workload mounts control groups and returns the one of commands, which is made with the
// first; "" if the kernel gives no groups.
func workload(t *testing.T) (group string) {
	t.Helper()
	if err := os.Mkdir("/sys/fs", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("/sys/fs/cgroup", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err == nil {
		group = "/sys/fs/cgroup/agentd-test-" + strconv.FormatInt(time.Now().UnixNano(), 36)
		t.Cleanup(func() {
			_ = os.WriteFile(group+"/cgroup.kill", []byte("1"), 0) // It is there once a command was.
			eventually(t, "the end of the group", func() bool { return removeGroups(group) })
		})
	}
	return group
}

// removeGroups removes a control group and those below it.
func removeGroups(group string) bool {
	for _, below := range cells(group) {
		removeGroups(filepath.Join(group, below))
	}
	err := os.Remove(group)
	return err == nil || os.IsNotExist(err)
}

// freezer skips what needs a kernel that lets the test freeze.
func (c *counter) freezer() {
	c.t.Helper()
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err != nil {
		c.t.Skipf("no control groups of version 2 here: %v", err)
	}
}

// put sends frames that are counted.
func (c *counter) put(id uint32, all ...wire.Message) {
	c.t.Helper()
	var b []byte
	for _, m := range all {
		f := bytesOf(c.t, nine, id, m)
		c.count(m.Type(), len(f))
		b = append(b, f...)
	}
	c.write(b)
}

func (c *counter) count(t wire.Type, n int) {
	if slices.Contains([]wire.Type{wire.TypeExecStdin, wire.TypeFSData, wire.TypeTCPData, wire.TypeTCPEOF}, t) {
		c.sent.BulkBytes += uint64(n)
		c.sent.BulkFrames++
	} else {
		c.sent.ControlBytes += uint64(n)
		c.sent.ControlFrames++
	}
}

// settled waits until the agent has handed everything back but for what is parked.
func (c *counter) settled(parked wire.TransportCounters) {
	c.t.Helper()
	want := limitOf(c.sent, parked)
	c.take("credit for everything", func(f received) bool {
		m, ok := f.Message.(*wire.WorkloadTransportCredit)
		return ok && m.TransportCounters == want
	})
}

func limitOf(sent, parked wire.TransportCounters) wire.TransportCounters {
	return wire.TransportCounters{
		ControlBytes:  firstControl + sent.ControlBytes - parked.ControlBytes,
		ControlFrames: firstFrames + sent.ControlFrames - parked.ControlFrames,
		BulkBytes:     firstBulk + sent.BulkBytes - parked.BulkBytes,
		BulkFrames:    firstFrames + sent.BulkFrames - parked.BulkFrames,
	}
}

// bare sends a message on the id that no client owns, which is not counted.
func (c *counter) bare(m wire.Message) {
	c.t.Helper()
	c.write(bytesOf(c.t, nine, wire.WorkloadID, m))
}

// word is the next answer about freezing, on the id that no client owns.
func (c *counter) word() wire.Message {
	c.t.Helper()
	return c.take("answer", func(f received) bool {
		_, credit := f.Message.(*wire.WorkloadTransportCredit)
		return f.ID == wire.WorkloadID && !credit
	}).Message
}

// refused is the next answer, which must be an error.
func (c *counter) refused(what string, kind wire.ErrorKind, text, left string) {
	c.t.Helper()
	m := c.word()
	e, ok := m.(*wire.ProtocolError)
	if !ok {
		c.t.Fatalf("%s: %T, want an error", what, m)
	}
	got := ""
	if e.WorkloadFailure != nil {
		got = e.WorkloadFailure.Disposition
	}
	if e.Kind != kind || !strings.Contains(e.Message, text) || got != left {
		c.t.Errorf("%s: %s %q %q, want %s %q %q", what, e.Kind, e.Message, got, kind, text, left)
	}
}

// Every frame is charged with its length and handed back when it has been consumed.
//
//holds:wire 15: the sums are exact under a flood
func TestTransportCredit(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		none := wire.TransportCounters{}
		c.put(1, &wire.Ping{})
		c.settled(none)
		for range 400 { // More than the limit, and consumed as they come.
			c.put(1, &wire.Ping{})
		}
		c.settled(none)
		c.put(2, sh("cat >/dev/null"))
		for range 200 {
			c.put(2, &wire.ExecStdin{Data: bytes.Repeat([]byte{'x'}, 70_000)})
		}
		c.settled(none)
		c.put(2, &wire.ExecStdin{Data: []byte{}})
		if r := c.collect(2); r.code != 0 || len(r.stdinErrors) > 0 {
			t.Errorf("code %d, %v", r.code, r.stdinErrors)
		}
		// What nobody takes comes back too: of unknown sessions, of wrong frames.
		c.put(3, &wire.ExecStdin{Data: []byte("x")})
		c.put(3, &wire.FSData{Data: []byte("x")})
		c.put(3, &wire.TCPData{Data: []byte("x")}, &wire.TCPEOF{})
		b := []byte{0, 0, 0, 7, 0, 0, 0, 1, 0, 0xff, 0xff}
		c.count("", len(b))
		c.write(b)
		c.settled(none)
	})
}

// What a command leaves unread stays charged, and comes back at once when it has ended.
func TestTransportCreditParked(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.put(1, sh("exec sleep 1000"))
		want[*wire.ExecStarted](c.host, 1)
		c.settled(wire.TransportCounters{})
		before := c.sent
		const pieces, piece = 10, 1 << 20 // Each more than a pipe holds.
		for range pieces {
			c.put(1, &wire.ExecStdin{Data: make([]byte, piece)})
		}
		c.put(2, &wire.Ping{})
		c.settled(wire.TransportCounters{
			BulkBytes: c.sent.BulkBytes - before.BulkBytes, BulkFrames: c.sent.BulkFrames - before.BulkFrames,
		})
		c.put(1, &wire.ExecSignal{Signal: 9})
		c.settled(wire.TransportCounters{})
	})
}

// A host that exceeds its credit loses what exceeds it, is told, and can go on.
func TestTransportCreditExceeded(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.put(1, sh("exec sleep 1000"))
		want[*wire.ExecStarted](c.host, 1)
		c.put(1, &wire.ExecStdin{Data: make([]byte, 1<<20)}) // More than a pipe holds.
		for range 299 {
			c.put(1, &wire.ExecStdin{Data: []byte("x")})
		}
		m := want[*wire.ExecStdinError](c.host, 1)
		if !strings.Contains(m.Message, "host exceeded its transport admission credit") {
			t.Errorf("%q", m.Message)
		}
		c.put(1, &wire.ExecSignal{Signal: 9})
		c.settled(wire.TransportCounters{})
		c.ping()
	})
}

// A host that does not read its answers loses none of them: it is not given what asks
// for more.
func TestTransportCreditLag(t *testing.T) {
	nstest.Run(t, func() {
		c := newCounter(t)
		c.hold(true)
		const pings = 100_000 // Their answers are more than what may wait of them for credit.
		b := bytesOf(t, nine, 1, &wire.Ping{})
		many := bytes.Repeat(b, 1000)
		for range pings / 1000 {
			for range 1000 {
				c.count(wire.TypePing, len(b))
			}
			c.write(many)
		}
		c.hold(false)
		c.settled(wire.TransportCounters{})
		eventually(t, "all answers", func() bool { return c.kept(1, 2) == pings })
	})
}

// A host that asks for it gets the credit for input back when that is stored: what one
// command leaves unread takes none from the others.
func TestStoredCredit(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := &counter{host: newHost(t, config{generation: nine, stored: true})}
		c.put(1, sh("exec sleep 1000"))
		want[*wire.ExecStarted](c.host, 1)
		for range 400 { // More frames and bytes than there is credit for at once.
			c.put(1, &wire.ExecStdin{Data: make([]byte, 100_000)})
			if c.sent.BulkFrames%100 == 0 {
				c.settled(wire.TransportCounters{})
			}
		}
		c.put(2, sh("exec wc -c"))
		c.put(2, &wire.ExecStdin{Data: make([]byte, 1<<20)}, &wire.ExecStdin{})
		if r := c.collect(2); string(bytes.TrimSpace(r.stdout)) != "1048576" {
			t.Errorf("%q", r.stdout)
		}
		c.settled(wire.TransportCounters{})
		c.put(1, &wire.ExecSignal{Signal: 9})
	})
}
