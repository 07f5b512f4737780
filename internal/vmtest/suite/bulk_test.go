package suite

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
)

const (
	// bulkFile is what moves, each way and each time; with AGENTD_LONG=1 ten times
	// that and more.
	bulkFile     = 24 << 20
	bulkFileLong = 256 << 20

	// bulkTime bounds one of them: an emulated machine moves some 20 MiB a second
	// by itself, and a tenth of that beside others with the smallest records.
	bulkTime = 5 * time.Minute

	// bulkMemory is what the agent may have held at any time (VmHWM, proc(5)): what
	// all input and output may, a frame of the largest record on its way in, and as
	// much again for what the collector has not freed yet.
	bulkMemory = 64 << 20
)

// moves are the ways of a file into the guest and back: without records, with the
// usual ones, and at the bounds of what can be agreed on.
var moves = []struct {
	name string
	client.Bulk
}{
	{"messages", client.Bulk{Off: true}},
	{"usual", client.Bulk{}},
	{"smallest", client.Bulk{Record: 16 << 10, Window: 32 << 10}},
	{"largest", client.Bulk{Record: 3 << 20, Window: 32 << 20}},
}

// Large files move exactly by records of every size, past a relay or without one,
// and the agent's memory stays bounded.
//
//holds:wire 12: accepted before data, contiguous, never above the limit, finish exact, terminal last
//holds:wire 14: the greeting's bytes; no ready before the answer; one port without the word, and towards hosts of 7
func TestBulk(t *testing.T) {
	if v := vmtest.Version(); v != "" && v != "0.7.2" {
		t.Skipf("agent %s has no raw records", v)
	}
	size := bulkFile
	if long() {
		size = bulkFileLong
	}
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	one := vmtest.Combinations(t)[0].Kernel // Also that of a published agent.
	for _, c := range []struct {
		name string
		cfg  sandbox.Config
	}{
		{"port", sandbox.Config{Kernel: one, MemoryMiB: 1024}},
		{"relay", sandbox.Config{Kernel: one, MemoryMiB: 1024, Socket: t.TempDir() + "/s"}},
		{"two ports", sandbox.Config{Kernel: one, MemoryMiB: 1024, Generation: 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vmtest.Start(t, c.cfg)
			speaks := int(wire.Newest)
			if vmtest.Version() == "" { // Published agents have one generation for all hosts.
				speaks = cmp.Or(c.cfg.Generation, speaks)
			}
			if g := m.Client().Generation(); g != speaks {
				t.Fatalf("generation %d, want %d", g, speaks)
			}
			if two := m.Client().Agent().SecondPort; two != (c.cfg.Generation == 8) {
				t.Fatalf("a second port is announced: %t", two)
			}
			took := map[string][2]time.Duration{}
			for _, b := range moves {
				took[b.name] = move(t, m, b.name, b.Bulk, content)
			}
			for _, b := range moves[1:] {
				t.Logf("%s against messages: in %.2f times as fast, out %.2f times", b.name,
					took["messages"][0].Seconds()/took[b.name][0].Seconds(), took["messages"][1].Seconds()/took[b.name][1].Seconds())
			}
			if peak := agentPeak(t, m); vmtest.Version() == "" && peak > bulkMemory {
				t.Errorf("the agent has held %d KiB", peak>>10)
			}
		})
	}
}

// move writes a file and reads it back.
func move(t *testing.T, m *vmtest.Machine, name string, b client.Bulk, content []byte) (took [2]time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bulkTime)
	defer cancel()
	const file = "/dev/shm/bulk"
	c := m.Client()
	c.SetBulk(b)
	start := time.Now()
	to, err := c.Create(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	// By blocks of the largest record, so that there are such.
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{bytes.NewReader(content)}, make([]byte, 3<<20))
	if err = errors.Join(err, to.Close()); err != nil || n != int64(len(content)) {
		t.Fatalf("%s: %d bytes written, %v", name, n, err)
	}
	took[0] = time.Since(start)
	sum, err := c.CommandContext(ctx, "sha256sum", file).Output()
	if want := fmt.Sprintf("%x", sha256.Sum256(content)); err != nil || !bytes.HasPrefix(sum, []byte(want)) {
		t.Errorf("%s: the guest has %.64s, %v, want %s", name, sum, err, want)
	}
	start = time.Now()
	from, err := c.Open(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	n, err = io.Copy(hash, from)
	took[1] = time.Since(start)
	if err = errors.Join(err, from.Close()); err != nil || n != int64(len(content)) || [32]byte(hash.Sum(nil)) != sha256.Sum256(content) {
		t.Errorf("%s: %d bytes read, %v", name, n, err)
	}
	mib := float64(len(content)) / (1 << 20)
	t.Logf("%-8s in %5.1f MiB/s, out %5.1f MiB/s, agent's peak %d KiB", name, mib/took[0].Seconds(), mib/took[1].Seconds(), agentPeak(t, m)>>10)
	return took
}

// agentPeak is the most memory that the agent has held so far.
func agentPeak(t *testing.T, m *vmtest.Machine) int {
	t.Helper()
	status, err := m.Client().ReadFile(t.Context(), "/proc/1/status")
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
