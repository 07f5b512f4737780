package exec

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// What never falls silent is cut off too, behind what was said in time.
func TestTailOfFlood(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	flooded := make(chan error, 1)
	go func() {
		for {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				flooded <- err
				return
			}
		}
	}()
	from, err := sys.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	o := &tail{file: r, from: from, hold: new(outputHold)}
	o.leaderEnded()
	o.mu.Lock()
	o.until = time.Now() // As if tailMost had passed.
	o.mu.Unlock()
	var n int64
	b := make([]byte, session.MaxRead)
	for err == nil { // As a pump reads: much, as long as there is much.
		var k int
		k, err = o.Read(b[:4<<10])
		n += int64(k)
		for k > 0 && err == nil {
			k, err = o.Try(b)
			n += int64(k)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil || n < tailRest || n > 2*tailRest || !o.left {
		t.Errorf("read %d bytes, %v, left %v; want some %d", n, err, o.left, tailRest)
	}
	full := new(atomic.Int64)
	full.Store(maxLeft)
	o.close(full)
	if err := <-flooded; !errors.Is(err, syscall.EPIPE) || full.Load() != maxLeft {
		t.Errorf("one too many is read on: %v, %d of them", err, full.Load())
	}
}

// What was left behind is read on until its end.
func TestTailReadsOn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o, others := &tail{file: r, left: true}, new(atomic.Int64)
	o.close(others)
	for range 64 {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	if n := others.Load(); n != 1 {
		t.Errorf("%d outputs are read on, want 1", n)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); others.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the end of the output was not noticed")
		}
	}
}
