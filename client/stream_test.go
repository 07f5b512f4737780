package client

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Single bytes cost what holds them, and not a chunk each.
func TestStreamGathers(t *testing.T) {
	const n = 100_000
	filled := func() *stream {
		s := newStream(StreamLimit)
		for i := range n {
			if !s.push([]byte{byte(i)}) {
				t.Fatal("not taken")
			}
		}
		return s
	}
	held := 0
	for s := filled(); !s.chunks.Empty(); {
		held += cap(s.chunks.Pop())
	}
	s := filled()
	if most := 2 * n; held > most || s.held > most {
		t.Errorf("%d bytes are held in %d, counted as %d", n, held, s.held)
	}
	s.finish(io.EOF)
	got, err := io.ReadAll(s)
	if len(got) != n || err != nil || got[n-1] != byte((n-1)&0xff) || s.held != 0 {
		t.Errorf("%d bytes came out, %v; %d still counted", len(got), err, s.held)
	}
}

// A piece that lies in a larger array is not appended to there.
func TestStreamKeepsToItsOwn(t *testing.T) {
	const piece = 4 << 10 // As long as those that are gathered.
	frame := make([]byte, piece+10)
	s := newStream(StreamLimit)
	s.push(frame[:piece])
	s.push([]byte("more"))
	if frame[piece] != 0 {
		t.Error("written after a piece")
	}
}

// A timeout ends a stream whose reader is stuck, and what was kept can be read.
func TestStreamTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(10)
		s.pushTimeout = time.Minute
		s.push([]byte("kept"))
		start := time.Now()
		if s.push([]byte("lost")) || time.Since(start) != time.Minute {
			t.Errorf("pushed after %v", time.Since(start))
		}
		s.expire(true)
		if _, err := s.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		s.expire(false)
		got, err := io.ReadAll(s)
		if string(got) != "kept" || !errors.Is(err, ErrUnread) {
			t.Errorf("read %q, %v", got, err)
		}
	})
}
