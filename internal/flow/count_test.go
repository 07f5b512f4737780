package flow

import (
	"strings"
	"testing"
)

//holds:wire 12: every slip ends one flow
func TestReceiverRecord(t *testing.T) {
	t.Parallel()
	type record struct {
		offset uint64
		n      int
	}
	for _, c := range []struct {
		name    string
		before  []record
		final   uint64 // 0 is none.
		last    record
		wantErr string
	}{
		{name: "first", last: record{0, 10}},
		{name: "contiguous", before: []record{{0, 10}}, last: record{10, 5}},
		{name: "gap", before: []record{{0, 10}}, last: record{11, 5}, wantErr: "bulk record offset 11 does not match expected 10"},
		{name: "again", before: []record{{0, 10}}, last: record{0, 10}, wantErr: "bulk record offset 0 does not match expected 10"},
		{name: "too long", last: record{0, 11}, wantErr: "invalid bulk record payload length 11 (max 10)"},
		{name: "all the credit", before: []record{{0, 10}}, last: record{10, 10}},
		{name: "a byte more", before: []record{{0, 10}, {10, 6}}, last: record{16, 5}, wantErr: "bulk record exceeds the granted credit"},
		{name: "up to the finish", final: 3, last: record{0, 3}},
		{name: "after the finish", final: 3, last: record{0, 4}, wantErr: "bulk record ends at 4 behind the finish offset 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiveCount(10, 20)
			if c.final > 0 {
				check(t, r.Finish(c.final), "")
			}
			for _, b := range c.before {
				check(t, r.Record(b.offset, b.n), "")
			}
			had := r.Received()
			check(t, r.Record(c.last.offset, c.last.n), c.wantErr)
			if want := had + uint64(c.last.n); c.wantErr == "" && r.Received() != want || c.wantErr != "" && r.Received() != had {
				t.Errorf("%d bytes received after %d", r.Received(), had)
			}
		})
	}
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestReceiverFinish(t *testing.T) {
	t.Parallel()
	r := newReceiveCount(10, 20)
	check(t, r.Record(0, 5), "")
	check(t, r.Finish(4), "bulk finish offset 4 does not match expected 5")
	if r.Whole() {
		t.Error("whole by a finish that was refused")
	}
	check(t, r.Finish(8), "")
	check(t, r.Finish(8), "")
	check(t, r.Finish(9), "bulk finish offset 9 does not match the earlier 8")
	if r.Whole() {
		t.Error("whole before its last bytes")
	}
	check(t, r.Record(5, 3), "")
	if !r.Whole() {
		t.Error("not whole")
	}
	empty := newReceiveCount(10, 20)
	check(t, empty.Finish(0), "")
	if !empty.Whole() {
		t.Error("a flow of no bytes is not whole")
	}
}

func TestReceiverGrants(t *testing.T) {
	t.Parallel()
	r := newReceiveCount(10, 20)
	check(t, r.Record(0, 10), "")
	if r.Consume(9) {
		t.Error("due with more than half of the window left")
	}
	if !r.Consume(1) {
		t.Error("not due with half of the window left")
	}
	if consumed, limit := r.Grant(); consumed != 10 || limit != 30 {
		t.Error(consumed, limit)
	}
	check(t, r.Record(10, 10), "")
	check(t, r.Finish(30), "")
	if r.Consume(10) {
		t.Error("due although the limit is the end")
	}
}

func TestSenderCredit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		consumed, limit uint64
		wantErr         string
		room            int
	}{
		{"repeat", 0, 20, "", 5},
		{"more", 10, 40, "", 10},
		{"all", 15, 15 + MaxWindow, "", 10},
		{"beyond sent", 16, 40, "peer consumed bytes the sender has not admitted", 5},
		{"limit back", 0, 19, "moved its credit back", 5},
		{"too wide", 15, 16 + MaxWindow, "bytes beyond what was consumed", 5},
		{"nonsense", 15, 1<<64 - 1, "bytes beyond what was consumed", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSendCount(10, 20)
			s.Take(s.Room())
			s.Take(5)
			check(t, s.Credit(c.consumed, c.limit), c.wantErr)
			if s.Room() != c.room || s.Sent() != 15 {
				t.Errorf("room %d after %d", s.Room(), s.Sent())
			}
		})
	}
	s := newSendCount(10, 20)
	s.Take(8)
	check(t, s.Credit(8, 20), "")
	check(t, s.Credit(7, 30), "moved its credit back")
}

// FuzzFlow moves bytes by steps that the input chooses: two ends that keep the
// rules always agree, never pass a limit, and get to the end.
//
//holds:wire 12: every slip ends one flow
func FuzzFlow(f *testing.F) {
	f.Add(uint16(100), uint16(30), uint16(5), []byte{1, 2, 3, 255, 0, 9})
	f.Add(uint16(0), uint16(1), uint16(1), []byte{})
	f.Add(uint16(65535), uint16(2), uint16(1), []byte{7})
	f.Fuzz(func(t *testing.T, size, window, record uint16, steps []byte) {
		if record == 0 || int(window) < 2*int(record) {
			t.Skip("no window that can be agreed on")
		}
		s, r := newSendCount(int(record), uint64(window)), newReceiveCount(int(record), uint64(window))
		left, held := int(size), 0
		send := func(most int) {
			n := min(s.Room(), left, most)
			if n == 0 {
				return
			}
			if err := r.Record(s.Sent(), n); err != nil {
				t.Fatal(err)
			}
			s.Take(n)
			left, held = left-n, held+n
		}
		consume := func(most int) {
			n := min(held, most)
			held -= n
			if r.Consume(n) {
				if err := s.Credit(r.Grant()); err != nil {
					t.Fatal(err)
				}
			}
			if r.Limit() < r.Received() || held > int(window) {
				t.Fatalf("limit %d, received %d, held %d", r.Limit(), r.Received(), held)
			}
		}
		for i, n := range steps {
			if i%2 == 0 {
				send(int(n))
			} else {
				consume(int(n))
			}
		}
		for left > 0 { // The rest cannot stand still.
			before := left
			consume(held)
			send(left)
			if left == before {
				t.Fatalf("stuck with %d bytes left", left)
			}
		}
		if err := r.Finish(s.Sent()); err != nil || !r.Whole() {
			t.Fatal(err, r.Whole())
		}
	})
}
