package agent_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A bare host sends frames that were made before and looks at headers alone. It allocates
// nothing, so what is counted is the agent's.
type bareHost struct {
	t    *testing.T
	port *os.File
	buf  []byte
	n    int // Bytes in buf.
	last []byte
}

// newBareHost takes core.ready from an agent that runs.
func newBareHost(t *testing.T, ours *os.File) *bareHost {
	t.Helper()
	b := &bareHost{t: t, port: ours, buf: make([]byte, 1<<20), last: make([]byte, 1<<20)}
	if err := ours.SetDeadline(time.Now().Add(100 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b.frame()
	return b
}

// frame takes the next frame. Its body is in b.last until the next call.
func (b *bareHost) frame() (flags frame.Flags) {
	const length = 4 // Of the length itself.
	for b.n < frame.HeaderSize || b.n < length+int(binary.BigEndian.Uint32(b.buf)) {
		n, err := b.port.Read(b.buf[b.n:])
		if err != nil {
			b.t.Fatal(err)
		}
		b.n += n
	}
	end := length + int(binary.BigEndian.Uint32(b.buf))
	flags = frame.Flags(b.buf[frame.HeaderSize-1])
	b.last = append(b.last[:0], b.buf[frame.HeaderSize:end]...)
	b.n = copy(b.buf, b.buf[end:b.n])
	return flags
}

// do sends frames and takes all up to the terminal one.
func (b *bareHost) do(frames []byte) {
	if _, err := b.port.Write(frames); err != nil {
		b.t.Fatal(err)
	}
	for b.frame()&frame.Terminal == 0 {
	}
}

// open opens a file and returns its handle.
func (b *bareHost) open(name string) uint64 {
	b.t.Helper()
	req := &wire.FSRequest{Op: &wire.OpOpenFile{Path: name, Options: wire.OpenOptions{Read: true, Write: true, Create: true}}}
	if _, err := b.port.Write(bytesOf(b.t, speaks, 7, req)); err != nil {
		b.t.Fatal(err)
	}
	b.frame()
	e, err := wire.DecodeEnvelope(b.last)
	if err != nil {
		b.t.Fatal(err)
	}
	m, err := wire.Decode(e)
	r, _ := m.(*wire.FSResponse)
	if err != nil || r == nil || !r.OK {
		b.t.Fatalf("open: %+v, %v", m, err)
	}
	h, ok := r.Data.(*wire.ResultHandle)
	if !ok {
		b.t.Fatalf("open: %+v", r.Data)
	}
	return h.Handle
}

// A cost is an operation, with the frames that ask for it.
type cost struct {
	name   string
	frames []byte
}

// costs are the operations that are counted, on files in a directory.
func costs(t *testing.T, b *bareHost, dir string) []cost {
	t.Helper()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, make([]byte, 4<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	h := b.open(name)
	const piece = 4 << 10
	write := bytesOf(t, speaks, 1, &wire.FSRequest{Op: &wire.OpWrite{Handle: h, Len: new(uint64(piece))}})
	write = append(write, bytesOf(t, speaks, 1, &wire.FSData{Data: make([]byte, piece)})...)
	write = append(write, bytesOf(t, speaks, 1, &wire.FSData{})...)
	return []cost{
		{"ping", bytesOf(t, speaks, 1, &wire.Ping{})},
		{"stat", bytesOf(t, speaks, 1, &wire.FSRequest{Op: &wire.OpStat{Path: name, FollowSymlink: true}})},
		{"read", bytesOf(t, speaks, 1, &wire.FSRequest{Op: &wire.OpRead{Handle: h, Len: new(uint64(piece))}})},
		{"write", write},
		{"true", bytesOf(t, speaks, 1, &wire.ExecRequest{Cmd: "true"})},
		{"echo", bytesOf(t, speaks, 1, &wire.ExecRequest{Cmd: "echo", Args: []string{"hello"}})},
	}
}

// countedAllocations are the most allocations of one operation.
var countedAllocations = map[string]float64{"ping": 3, "stat": 25, "read": 31, "write": 29, "true": 112, "echo": 117}

// batches is how often a count is tried: what else goes on adds to it and takes nothing away.
const batches = 40

// TestAllocations holds the allocations of the operations that are done most.
func TestAllocations(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port, ours := link(t)
		h := &host{t: t, port: ours, end: make(chan served, 1)}
		h.serve(agent.Open(port), port, config{})
		t.Cleanup(func() { _ = ours.Close() })
		b := newBareHost(t, ours)
		for _, c := range costs(t, b, "/tmp") {
			for range 20 {
				b.do(c.frames)
			}
			got, most := math.Inf(1), countedAllocations[c.name]
			for n := 0; n < batches && got > most; n++ { // The heartbeat and the like allocate too.
				got = min(got, testing.AllocsPerRun(100, func() { b.do(c.frames) }))
			}
			t.Logf("%s: %.0f allocations", c.name, got)
			if got > most {
				t.Errorf("%s: %.0f allocations, want at most %.0f", c.name, got, most)
			}
		}
	})
}
