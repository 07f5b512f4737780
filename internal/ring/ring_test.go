package ring

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/agentd-go/agentd/internal/mux"
)

// byteAt is the byte of the test's stream at an offset: neighbours and blocks differ.
func byteAt(o uint64) byte { return byte(o ^ o>>8 ^ o>>16*7) }

func stream(from uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byteAt(from + uint64(i))
	}
	return b
}

func tempStorage(t *testing.T) func() (mux.Storage, error) {
	t.Helper()
	return func() (mux.Storage, error) {
		f, err := os.CreateTemp(t.TempDir(), "ring")
		return f, err
	}
}

// check reads from an offset to the end of what there is, and returns where it ended.
func check(t *testing.T, r *Ring, offset uint64, size int) (at uint64, ended bool) {
	t.Helper()
	b := make([]byte, size)
	for {
		n, from, err := r.Read(offset, b)
		if from < offset && offset <= from {
			t.Fatalf("read at %d begins at %d", offset, from)
		}
		if !bytes.Equal(b[:n], stream(from, n)) {
			t.Fatalf("bytes at %d differ", from)
		}
		offset = from + uint64(n)
		if n == 0 {
			return offset, errors.Is(err, io.EOF)
		}
	}
}

// Whatever the sizes, a ring keeps the newest bytes that fit, and they are what was written.
func TestDrop(t *testing.T) {
	for _, c := range []Config{
		{Memory: 1},
		{Memory: 64 << 10},
		{Memory: 100_000},
		{Memory: 4 << 10, Disk: 1},
		{Memory: 8 << 10, Disk: 10_000},
		{Memory: 64 << 10, Disk: 1 << 20},
		{Memory: 64 << 10, Disk: 50_001},
	} {
		c.Storage = tempStorage(t)
		r := New(c)
		var total uint64
		for i := range 150 {
			n := rand.N(3 * (i + 1) * 10)
			if r.Append(stream(total, n)) {
				t.Fatal("the writer waited")
			}
			total += uint64(n)
			start, end := r.Bounds()
			if end != total || end-start > uint64(max(c.Memory, least))+uint64(max(c.Disk, least)) {
				t.Fatalf("%+v: kept %d to %d of %d", c, start, end, total)
			}
			check(t, r, start, 1+rand.N(20_000))
		}
		start, end := r.Bounds()
		if end-start < min(total, uint64(max(c.Memory, least)/2)+uint64(c.Disk/2)) {
			t.Errorf("%+v: only %d bytes are kept", c, end-start)
		}
		r.End()
		if at, ended := check(t, r, 0, 1000); at != total || !ended {
			t.Errorf("%+v: read to %d of %d, ended %v", c, at, total, ended)
		}
		r.Close()
	}
}

// A ring that waits loses nothing: the writer goes on when bytes are consumed.
func TestWait(t *testing.T) {
	for _, c := range []Config{{Memory: 1}, {Memory: 200_000}, {Memory: 1, Disk: 100_000}, {Memory: 100_000, Disk: 30_000}} {
		c.Wait, c.Storage = true, tempStorage(t)
		r := New(c)
		const total = 3 << 20
		var all sync.WaitGroup
		all.Go(func() {
			for at := uint64(0); at < total; {
				n := min(1+rand.N(30_000), int(total-at))
				r.Append(stream(at, n))
				at += uint64(n)
			}
			r.End()
		})
		var at, acked uint64
		b := make([]byte, 20_000)
		for {
			changed := r.Changed()
			n, from, err := r.Read(at, b[:1+rand.N(len(b))])
			if from != at || !bytes.Equal(b[:n], stream(at, n)) {
				t.Fatalf("%+v: at %d: bytes of %d", c, at, from)
			}
			if at += uint64(n); at-acked >= 16<<10 {
				acked = at
				r.Consumed(at)
			}
			if err != nil {
				break
			}
			if n == 0 {
				<-changed
			}
		}
		all.Wait()
		if at != total {
			t.Errorf("%+v: read %d", c, at)
		}
		r.Close()
	}
}

// A writer that waits is let go when the ring is closed.
func TestCloseEndsWait(t *testing.T) {
	r := New(Config{Wait: true})
	done := make(chan bool)
	go func() { done <- r.Append(make([]byte, leastWait+1)) }()
	for {
		if _, end := r.Bounds(); end == leastWait {
			break
		}
		<-r.Changed()
	}
	r.Close()
	if !<-done {
		t.Error("the writer did not wait")
	}
	if _, _, err := r.Read(0, make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read of a closed ring: %v", err)
	}
}

// brokenStorage fails from its n-th write on.
type brokenStorage struct {
	mux.Storage
	writes int
}

func (b *brokenStorage) WriteAt(p []byte, at int64) (int, error) {
	if b.writes--; b.writes < 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return b.Storage.WriteAt(p, at)
}

// A disk that fails costs what it held at the most; the stream goes on from memory.
func TestBrokenDisk(t *testing.T) {
	for writes := range 12 {
		open := tempStorage(t)
		r := New(Config{Memory: 8 << 10, Disk: 40_000, Storage: func() (mux.Storage, error) {
			f, err := open()
			return &brokenStorage{f, writes}, err
		}})
		var total uint64
		for range 60 {
			r.Append(stream(total, 2500))
			total += 2500
			check(t, r, 0, 3000)
		}
		r.End()
		if at, ended := check(t, r, 0, 3000); at != total || !ended {
			t.Errorf("disk that fails at write %d: read to %d", writes, at)
		}
		r.Close()
	}
	r := New(Config{Disk: 1 << 20, Storage: func() (mux.Storage, error) { return nil, os.ErrNotExist }})
	r.Append(stream(0, 100_000))
	if start, end := r.Bounds(); end != 100_000 || end-start > 2*least {
		t.Errorf("without a disk %d to %d are kept", start, end)
	}
}

// Budgets bound all rings together, and are given back.
func TestBudgets(t *testing.T) {
	memory, disk := mux.NewBudget(100_000), mux.NewBudget(200_000)
	c := Config{Memory: 64 << 10, Disk: 1 << 20, Storage: tempStorage(t), MemoryBudget: memory, DiskBudget: disk}
	var all []*Ring
	for range 4 {
		r := New(c)
		for at := uint64(0); at < 300_000; at += 1000 {
			r.Append(stream(at, 1000))
		}
		start, _ := r.Bounds()
		check(t, r, start, 5000)
		all = append(all, r)
	}
	var kept uint64
	for _, r := range all {
		start, end := r.Bounds()
		kept += end - start
		r.Close()
		r.Close()
	}
	if kept > 300_000+4*least {
		t.Errorf("%d bytes were kept", kept)
	}
	if memory.Left() != 100_000 || disk.Left() != 200_000 {
		t.Errorf("budgets have %d and %d left", memory.Left(), disk.Left())
	}
}

// Readers at any place never get a byte that was overwritten while they read.
func TestReadersBesideWriter(t *testing.T) {
	r := New(Config{Memory: 8 << 10, Disk: 20_000, Storage: tempStorage(t)})
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start, _ := r.Bounds()
				check(t, r, start, 1+rand.N(9000))
			}
		})
	}
	for at := uint64(0); at < 4<<20; at += 1500 {
		r.Append(stream(at, 1500))
	}
	close(stop)
	all.Wait()
	r.Close()
}
