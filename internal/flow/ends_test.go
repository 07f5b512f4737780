package flow

import (
	"bytes"
	"errors"
	"testing"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const id = 7

// ends are a sender and a receiver of both kinds, and how data gets from the one to the
// other: take says what a frame of the sender carries.
func ends(t *testing.T, records bool) (s Sender, r Receiver, take func(b []byte) []byte) {
	t.Helper()
	if !records {
		return SendMessages(wire.Newest, wire.TypeTCPData, new(wire.TCPEOF)), ReceiveMessages(), func(b []byte) []byte {
			e, err := wire.DecodeEnvelope(body(t, b))
			if err == nil {
				err = r.Message()
			}
			data, decode := wire.DataOf(e)
			if err = errors.Join(err, decode); err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
	s = SendRecords(wire.BulkTCP, wire.FlowHostToGuest, nil)
	r = ReceiveRecords(wire.BulkTCP, wire.FlowHostToGuest, func(m wire.Message) {
		if credit, ok := m.(*wire.BulkCredit); !ok || s.Credit(credit) != nil {
			t.Errorf("told %+v", m)
		}
	})
	for _, open := range []func(int, uint64) error{s.Open, r.Open} {
		if first, again := open(10, 20), open(10, 20); first != nil || !errors.Is(again, ErrMisplaced) {
			t.Fatal(first, again)
		}
	}
	return s, r, func(b []byte) []byte {
		p, err := wire.DecodeRecord(body(t, b))
		if err == nil {
			_, err = r.Record(p)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p.Data
	}
}

func body(t *testing.T, b []byte) []byte {
	t.Helper()
	f, err := frame.NewReader(bytes.NewReader(b)).Next()
	if err != nil || f.ID != id {
		t.Fatal(f.ID, err)
	}
	return f.Body
}

// Both implementations move the same bytes through the same calls.
func TestEnds(t *testing.T) {
	t.Parallel()
	for _, records := range []bool{false, true} {
		s, r, take := ends(t, records)
		want := []byte("a flow of some more bytes than a window of twenty has")
		var got []byte
		for left := want; len(left) > 0; {
			n, changed, err := s.Room(len(left))
			if err != nil || n == 0 || records && n > s.Longest(len(left)) {
				t.Fatal(n, changed, err)
			}
			buf := append(make([]byte, wire.DataHead), left[:n]...)
			s.Take(n)
			got = append(got, take(s.Frame(buf, id, n))...)
			left = left[n:]
			r.Consumed(n)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("records %v: got %q", records, got)
		}
		if m, ok := s.End().(*wire.BulkFinish); ok != records || ok && r.Finish(m) != nil || !r.Whole() || r.Behind() {
			t.Errorf("records %v: not whole after %+v", records, s.End())
		}
	}
}

// A frame that did not leave is sent again at the same offset.
func TestUntake(t *testing.T) {
	t.Parallel()
	s, _, take := ends(t, true)
	buf := append(make([]byte, wire.DataHead), "abc"...)
	s.Take(3)
	s.Frame(bytes.Clone(buf), id, 3)
	s.Untake(3)
	s.Take(3)
	if got := take(s.Frame(buf, id, 3)); string(got) != "abc" {
		t.Errorf("got %q", got)
	}
}

// Without credit there is no room, and credit, Wake and Fail have it looked for again.
func TestRoomChanges(t *testing.T) {
	t.Parallel()
	s, r, take := ends(t, true)
	send := func(n int) {
		s.Take(n)
		take(s.Frame(make([]byte, wire.DataHead+n), id, n))
	}
	send(10)
	send(10)
	for _, change := range []func(){s.Wake, func() { r.Consumed(20) }} {
		n, changed, err := s.Room(1)
		if n != 0 || err != nil {
			t.Fatal(n, err)
		}
		change()
		<-changed
	}
	if n, _, err := s.Room(1); n != 1 || err != nil {
		t.Error(n, err)
	}
	broken := errors.New("broken")
	s.Fail(broken)
	s.Fail(errors.New("later"))
	if _, _, err := s.Room(1); !errors.Is(err, broken) || !errors.Is(s.AwaitOpen(), broken) {
		t.Error(err)
	}
}

// An unread flow is cancelled once, and not after its end.
func TestCancel(t *testing.T) {
	t.Parallel()
	told := 0
	r := ReceiveRecords(wire.BulkFS, wire.FlowGuestToHost, func(wire.Message) { told++ })
	r.Cancel()
	r.Cancel()
	if told != 1 {
		t.Errorf("cancelled %d times", told)
	}
	r = ReceiveRecords(wire.BulkFS, wire.FlowGuestToHost, func(wire.Message) { t.Error("told after the end") })
	r.End()
	r.Cancel()
}

// Records that have a port of their own may come before the agreement, within the offer.
func TestExpect(t *testing.T) {
	t.Parallel()
	r := ReceiveRecords(wire.BulkFS, wire.FlowGuestToHost, nil)
	first := wire.Record{Kind: wire.BulkFS, Flow: wire.FlowGuestToHost, Data: []byte("ab")}
	if _, err := r.Record(first); err == nil {
		t.Error("taken before anything was agreed")
	}
	r.Expect(2, 10)
	if n, err := r.Record(first); n != 2 || err != nil {
		t.Error(n, err)
	}
	if err := r.Finish(&wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowGuestToHost, FinalOffset: 2}); err == nil {
		t.Error("finished before the agreement")
	}
	if err := r.Open(2, 10); err != nil || r.Whole() {
		t.Error(err, r.Whole())
	}
}
