package mux_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/internal/mux"
)

// The counted bytes are about the used memory: a host that sends byte by byte must not
// cost a hundred times as much.
func TestInboxHoldsSmallPiecesCheaply(t *testing.T) {
	const pieces = 1 << 18
	in := mux.NewInbox(mux.InboxConfig{Memory: pieces})
	defer in.Drop()
	before := heap()
	for i := range pieces {
		frame := make([]byte, 48) // A frame's body, of which one byte is data.
		frame[40] = byte(i)
		if err := in.Push(frame[40:41]); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 4*pieces {
		t.Errorf("%d bytes of input hold %d bytes of memory", pieces, grown)
	}
	in.End()
	var n int
	for p, err := in.Next(); err == nil; p, err = in.Next() {
		for _, c := range p {
			if c != byte(n) {
				t.Fatalf("byte %d is %d", n, c)
			}
			n++
		}
	}
	if n != pieces {
		t.Errorf("took %d of %d bytes", n, pieces)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A small piece after a large one does not overwrite the rest of the large one's
// memory.
func TestInboxLeavesTheRestOfABufferAlone(t *testing.T) {
	in := mux.NewInbox(mux.InboxConfig{Memory: 1 << 20})
	defer in.Drop()
	buffer := bytes.Repeat([]byte("a"), 10_000)
	for _, p := range [][]byte{buffer[:5000], []byte("b")} {
		if err := in.Push(p); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(buffer, bytes.Repeat([]byte("a"), 10_000)) {
		t.Error("the bytes after the piece were changed")
	}
}

// A storage that always holds something stays below its bound, whatever passes it.
func TestInboxStorageIsBounded(t *testing.T) {
	const stored = 10_000
	name := filepath.Join(t.TempDir(), "spill")
	in := mux.NewInbox(mux.InboxConfig{Memory: 1, Stored: stored, Storage: func() (mux.Storage, error) {
		return os.Create(name)
	}})
	defer in.Drop()
	var put, taken int
	push := func(n int) {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte((put + i) % 251)
		}
		if err := in.Push(p); err != nil {
			t.Fatalf("with %d of %d bytes unread: %v", put-taken, stored, err)
		}
		put += n
	}
	push(stored)
	for put < 50*stored {
		p, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p {
			if c != byte(taken%251) {
				t.Fatalf("byte %d is another's", taken)
			}
			taken++
		}
		for room := stored - (put - taken); room > 0; room = stored - (put - taken) {
			push(min(room, 999))
		}
	}
	if err := in.Push([]byte("x")); !errors.Is(err, mux.ErrFull) {
		t.Errorf("one byte more than the bound: %v", err)
	}
	if st, err := os.Stat(name); err != nil || st.Size() > stored {
		t.Errorf("the storage has %d bytes after %d have passed: %v", st.Size(), put, err)
	}
}

// Room is what would not go to the storage.
func TestInboxRoom(t *testing.T) {
	budget := mux.NewBudget(150)
	in := mux.NewInbox(mux.InboxConfig{Memory: 100, Budget: budget, Stored: 1000, Storage: func() (mux.Storage, error) {
		return os.Create(filepath.Join(t.TempDir(), "spill"))
	}})
	defer in.Drop()
	other := mux.NewInbox(mux.InboxConfig{Memory: 100, Budget: budget})
	defer other.Drop()
	want := func(n int, room bool, when string) {
		t.Helper()
		if in.Room(n) != room {
			t.Errorf("%s: room for %d is %t", when, n, !room)
		}
	}
	push := func(in *mux.Inbox, n int) {
		t.Helper()
		if err := in.Push(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	want(101, true, "empty")
	push(in, 60)
	want(40, true, "in memory")
	want(41, false, "in memory")
	push(other, 60)
	want(40, false, "with little left for all")
	other.Drop()
	push(in, 41)
	want(1, false, "after stored bytes")
	for range 2 {
		if _, err := in.Next(); err != nil {
			t.Fatal(err)
		}
	}
	want(100, true, "taken")
	push(in, 100)
	in.End()
	want(1, true, "ended")
}

// Poll takes what is in memory, in the order of Next, and nothing else.
func TestInboxPoll(t *testing.T) {
	in := mux.NewInbox(mux.InboxConfig{Memory: 8000, Stored: 8000, Storage: func() (mux.Storage, error) {
		return os.Create(filepath.Join(t.TempDir(), "spill"))
	}})
	defer in.Drop()
	if p := in.Poll(); p != nil {
		t.Errorf("took %d bytes of nothing", len(p))
	}
	for n := range 3 {
		if err := in.Push(bytes.Repeat([]byte{byte('a' + n)}, 3000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"a", "b", ""} {
		if p := in.Poll(); string(p) != strings.Repeat(want, 3000) {
			t.Errorf("took %.3q, want %q", p, want)
		}
	}
	if p, err := in.Next(); string(p) != strings.Repeat("c", 3000) || err != nil {
		t.Errorf("took %.3q, %v", p, err)
	}
}

// failing is a storage whose disk is full.
type failing struct{ *os.File }

func (failing) WriteAt([]byte, int64) (int, error) { return 0, os.ErrInvalid }

// A failed write to the storage keeps the earlier bytes, and nothing of the new ones.
func TestInboxStorageFails(t *testing.T) {
	broken := errors.New("no disk")
	for _, tt := range []struct {
		name    string
		storage func() (mux.Storage, error)
		want    error
	}{
		{"to open", func() (mux.Storage, error) { return nil, broken }, broken},
		{"to write", func() (mux.Storage, error) {
			f, err := os.Create(filepath.Join(t.TempDir(), "spill"))
			return failing{f}, err
		}, os.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := mux.NewInbox(mux.InboxConfig{Memory: 4, Stored: 100, Storage: tt.storage})
			defer in.Drop()
			if err := in.Push([]byte("kept")); err != nil {
				t.Fatal(err)
			}
			if err := in.Push([]byte("lost")); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if p, err := in.Next(); string(p) != "kept" || err != nil {
				t.Errorf("took %q, %v", p, err)
			}
		})
	}
}

func TestOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 0)
		o := w.Outbox(1000)
		for i, want := range []bool{true, true, false} {
			if got := o.TrySend(message(1, uint32(i), 400)); got != want {
				t.Errorf("offer %d: %t", i, got)
			}
		}
		large := w.Outbox(1000)
		if !large.TrySend(message(2, 0, 5000)) {
			t.Error("an empty outbox refused a frame larger than its bound")
		}
		if q := o.Queued() + large.Queued(); q != 5800 {
			t.Errorf("%d bytes are queued, want what was taken", q)
		}
		o.Close()
		if o.TrySend(message(1, 9, 8)) {
			t.Error("a closed outbox took a frame")
		}
		go func() { _ = w.Run() }()
		close(g.open)
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if n := g.got.Len(); n != 5800 {
			t.Errorf("%d bytes left, want 5800", n)
		}
	})
}

// Draining an outbox ends with its last frame, when it is discarded, and with
// the link; other outboxes have no part in it.
func TestOutboxDrain(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(g *gate, w *mux.Writer, o *mux.Outbox)
	}{
		{"sent", func(g *gate, _ *mux.Writer, _ *mux.Outbox) { close(g.open) }},
		{"discarded", func(_ *gate, _ *mux.Writer, o *mux.Outbox) { o.Discard() }},
		{"link closed", func(_ *gate, w *mux.Writer, _ *mux.Outbox) { w.Close() }},
		{"link broken", func(g *gate, _ *mux.Writer, _ *mux.Outbox) { g.err = os.ErrClosed; close(g.open) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{open: make(chan struct{})}
				w := mux.NewWriter(g, 0)
				defer w.Close()
				w.Outbox(0).Drain() // Nothing is in it: it must not wait.
				first, o := w.Outbox(0), w.Outbox(0)
				for range 3 { // The first occupies the link.
					if err := errors.Join(first.Put(message(1, 0, mux.Quantum)), o.Put(message(2, 0, 8))); err != nil {
						t.Fatal(err)
					}
				}
				running := make(chan struct{})
				go func() { defer close(running); _ = w.Run() }()
				drained := make(chan struct{})
				go func() { defer close(drained); o.Drain() }()
				synctest.Wait()
				select {
				case <-drained:
					t.Fatal("drained with frames queued")
				default:
				}
				tt.end(g, w, o)
				<-drained
				if n := o.Queued(); n != 0 {
					t.Errorf("%d bytes are left", n)
				}
				w.Close()
				if g.err == nil && tt.name != "sent" {
					close(g.open)
				}
				<-running
			})
		})
	}
}

// Frames that are kept for a peer that does not read arrive complete and in order, cost
// little more than their bytes, and take no room from other outboxes.
func TestKeptFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frames, size, one, all = 30_000, 29, 1 << 20, 3 << 19
		link := &gated{open: make(chan struct{})}
		w := mux.NewWriter(link, 4*size)
		ran := make(chan error, 1)
		go func() { ran <- w.Run() }()
		allowance := mux.NewAllowance(all)
		first, second, other := w.Keeping(one, allowance), w.Keeping(one, allowance), w.Outbox(0)
		before := heap()
		for i := range frames {
			if !first.TrySend(numbered(i)) {
				t.Fatalf("frame %d was refused", i)
			}
		}
		if grown := heap() - before; grown > 2*frames*size {
			t.Errorf("%d bytes of frames hold %d bytes of memory", frames*size, grown)
		}
		if err := other.Send(numbered(0)); err != nil { // It would wait, if the total were used up.
			t.Error(err)
		}
		if first.TrySend(make([]byte, one-first.Queued()+1)) {
			t.Error("an outbox holds more than its own bound")
		}
		more := 0
		for second.TrySend(numbered(more)) {
			more++
		}
		if held := first.Queued() + second.Queued(); held > all || held < all-size-4<<10 {
			t.Errorf("all hold %d bytes, want nearly %d", held, all)
		}
		second.Discard()
		if !w.Keeping(one, allowance).TrySend(numbered(0)) {
			t.Error("a client that has gone still holds the room")
		}
		close(link.open)
		synctest.Wait()
		if n := first.Queued(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
		w.Close()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		next := 0
		for rest := link.written.Bytes(); len(rest) >= size; rest = rest[size:] {
			if bytes.Equal(rest[:size], numbered(next)) {
				next++
			}
		}
		if next != frames {
			t.Errorf("%d of %d frames came in order", next, frames)
		}
	})
}

// numbered returns a distinct frame of 29 bytes.
func numbered(n int) []byte { return fmt.Appendf(nil, "%029d", n) }

// gated accepts bytes after it was opened.
type gated struct {
	open    chan struct{}
	written bytes.Buffer
}

func (g *gated) Write(b []byte) (int, error) {
	<-g.open
	return g.written.Write(b)
}
