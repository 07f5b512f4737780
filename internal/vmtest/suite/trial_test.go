package suite

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A trial is a machine that much is asked of, by its client and by raw frames.
type trial struct {
	*guest
	tap *vmtest.Tap
}

// raw is a raw client with a slot of its own.
func (m *trial) raw(slot int) *contract.Peer { return m.tap.Peer(m.ctx, slot) }

// scaled is a bound that holds on hardware; software emulation on a busy host gets
// twenty times that.
func (m *trial) scaled(bound time.Duration) time.Duration {
	const emulated = 20
	if m.Emulated() {
		return emulated * bound
	}
	return bound
}

// TestTrials asks one machine for what takes long or much, one after the other. The
// full sizes need AGENTD_LONG=1.
//
//holds:wire 1: what comes with the ack is neither lost nor late
//holds:wire 1: a host that pauses 12 s loses nothing; next to no processor time
//holds:wire 8: started, output, exited; 200 MB in order, also with a slow host
//holds:wire 8: one that never reads delays nobody by 100 ms; bounded memory
//holds:wire 9: 1024 handles, the 1025th refused, commands start
//holds:wire 11: host paused 12 s beside four floods: below 64 MiB, nothing lost
//holds:wire 11: 64 MiB of input nobody reads: pings answered, bytes exact
//holds:wire 19a: no process ids left: the agent lives
//holds:boot 24: heartbeat: whole at every instant, both formats, higher under a flood, nothing left beside; a silent command counts
func TestTrials(t *testing.T) {
	ownOnly(t, "it dies of some and hangs in others")
	for _, kernel := range vmtest.Kernels(t) {
		if !strings.HasPrefix(kernel, "krunfw-") {
			continue // The stock kernel has ext4 in a module that no machine of ours needs.
		}
		tap := vmtest.NewTap()
		tap.WithAck = pingBehindAck(t)
		m, _ := vmtest.StartTapped(t, sandbox.Config{
			Kernel: kernel, MemoryMiB: 1024, CPUs: 2, Root: vmtest.ServerRoot(t),
			Disks: []sandbox.Disk{{Path: vmtest.Disk(t, "ext4", "")}},
		}, tap)
		serve(t, tap)
		for _, part := range []struct {
			name string
			run  func(*testing.T, *trial)
		}{
			{"a frame after the ack", behindAck},
			{"volume on disks", diskVolume},
			{"attempts", attempts},
			{"no descriptors", noDescriptors},
			{"clock", setClocks},
			{"heartbeat", heartbeats},
			{"paused host", pausedHost},
			{"answers to a host that lags", laggingHost},
			{"input flood", inputFlood},
			{"hostile frames", hostileFrames},
			{"no pids", noPIDs},
		} {
			t.Run(part.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
				defer cancel()
				part.run(t, &trial{&guest{Machine: m, ctx: ctx}, tap})
			})
			if err := m.Client().Err(); err != nil {
				t.Fatalf("the machine is gone: %v", err)
			}
		}
	}
}

// behindSlot is the client whose ping leaves with the ack.
const behindSlot = 90

func pingBehindAck(t *testing.T) []byte {
	t.Helper()
	start, _ := frame.SlotRange(behindSlot)
	b, err := wire.AppendFrame(nil, wire.Newest, start, &wire.Ping{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// behindAck: what came with core.init.ack is neither lost nor late.
func behindAck(t *testing.T, m *trial) {
	t.Helper()
	if r, err := m.raw(behindSlot).Hear(0); err != nil || r.Type != wire.TypePong {
		t.Errorf("got %s, %v", r.Type, err)
	}
}

// diskVolume is a large file each way on ext4, and on an overlay over it.
func diskVolume(t *testing.T, m *trial) {
	t.Helper()
	_, err := m.say(`mkdir /data /over && mount -t ext4 /dev/vda /data && mkdir /data/u /data/w &&
		mount -t overlay over -o lowerdir=/etc,upperdir=/data/u,workdir=/data/w /over`)
	if err != nil {
		t.Fatal(err)
	}
	volumes(t, m.guest, "/data", "/over")
}

// attempts opens a file over and over: beyond the limit each is refused, and none
// costs more than the first ones.
//
//holds:wire 9: shapes, nulls, prefixes and texts
func attempts(t *testing.T, m *trial) {
	t.Helper()
	const all, most = 4096, 1024
	p := m.raw(20)
	took := make([]time.Duration, all)
	refused := 0
	for i := range took {
		start := time.Now()
		got, err := p.File(&wire.OpOpenFile{Path: "/etc/passwd", Options: wire.OpenOptions{Read: true}})
		took[i] = time.Since(start)
		switch {
		case err != nil:
			t.Fatal(err)
		case got == "open: too many open filesystem handles for relay client: 1024":
			refused++
		case got != "handle":
			t.Fatalf("attempt %d: %s", i, got)
		}
	}
	if refused != all-most {
		t.Errorf("%d attempts were refused, want %d", refused, all-most)
	}
	if err := p.Leave(); err != nil {
		t.Error(err)
	}
	begin, end := median(took[:all/4]), median(took[3*all/4:])
	t.Logf("median of the first quarter %v, of the last %v", begin, end)
	if end > 2*begin {
		t.Errorf("an attempt at the end takes %v, at the start %v", end, begin)
	}
}

// noDescriptors opens what all clients together may: the next is refused, and
// commands and connections have what they need.
//
//holds:wire 9: a fifo, a slow disk, a dead mount delay nobody
//holds:wire 19a: state during a read that waits; removal of a large tree
func noDescriptors(t *testing.T, m *trial) {
	t.Helper()
	const clients, each = 8, 1024 // More than descriptors, whatever the limit.
	op := &wire.OpOpenFile{Path: "/etc/passwd", Options: wire.OpenOptions{Read: true}}
	opened, got := 0, "handle"
	for i := 0; i < clients*each && got == "handle"; i++ {
		var err error
		if got, err = m.raw(60 + i/each).File(op); err != nil {
			t.Fatal(err)
		}
		opened++
	}
	if got != "open: No file descriptors available (os error 24)" {
		t.Errorf("attempt %d: %s", opened, got)
	}
	if out, err := m.say("echo beside"); err != nil || out != "beside\n" {
		t.Errorf("a command says %q, %v", out, err)
	}
	if err := m.echo("127.0.0.1:"+strconv.Itoa(contract.EchoPort), []byte("beside")); err != nil {
		t.Errorf("a connection: %v", err)
	}
	for slot := range clients {
		if err := m.raw(60 + slot).Leave(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d files were open beside them", opened-1)
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
