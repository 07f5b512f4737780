package mux_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/internal/mux"
)

// What there is no credit for waits, control frames pass by data that waits, and the sums
// are those of what has left, by both links.
func TestCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &gate{open: make(chan struct{})}, &gate{open: make(chan struct{})}
		close(first.open)
		close(second.open)
		one, two := mux.NewWriter(first, 0), mux.NewWriter(second, 0)
		class := func(b []byte) mux.Class {
			if b[0] == 'd' {
				return mux.Data
			}
			return mux.Control
		}
		c := mux.NewCredit(mux.Totals{Bytes: 100, Frames: 2}, mux.Totals{Bytes: 10, Frames: 100})
		c.Share(one, class)
		c.Share(two, class)
		go func() { _ = one.Run() }()
		go func() { _ = two.Run() }()
		defer one.Close()
		defer two.Close()
		o, other, records := one.Outbox(0), one.Outbox(0), two.Outbox(0)
		put := func(o *mux.Outbox, frames ...string) {
			t.Helper()
			for _, f := range frames {
				if err := o.Put([]byte(f)); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		wrote := func(g *gate, want string) {
			t.Helper()
			synctest.Wait()
			if got := g.got.String(); got != want {
				t.Errorf("written %q, want %q", got, want)
			}
			g.got.Reset()
		}
		put(o, "data1", "data2", "data3", "control1")
		wrote(first, "data1data2control1")
		put(other, "data4")
		put(records, "data5")
		put(o, "control2")
		wrote(first, "control2")
		put(o, "control3") // Control credit is used up as well.
		wrote(first, "")
		c.Grant(mux.Totals{Bytes: 100, Frames: 3}, mux.Totals{Bytes: 10, Frames: 100})
		wrote(first, "control3")
		c.Grant(mux.Totals{}, mux.Totals{Bytes: 25}) // Limits do not fall.
		synctest.Wait()
		if got := first.got.Len() + second.got.Len(); got != 15 || bytes.Contains(first.got.Bytes(), []byte("control")) {
			t.Errorf("%q and %q", first.got.String(), second.got.String())
		}
		put(o, "data6", "control4", "data7")
		o.DropData()
		first.got.Reset()
		c.Grant(mux.Totals{Bytes: 100, Frames: 4}, mux.Totals{Bytes: 35})
		wrote(first, "control4")
		if control, data := c.Sent(); control.Frames != 4 || data.Bytes != 25 || data.Frames != 5 {
			t.Errorf("sent %+v and %+v", control, data)
		}
	})
}

// A parked Writer lets nothing leave but what is express, and loses nothing.
func TestPark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		close(g.open)
		w := mux.NewWriter(g, 0)
		go func() { _ = w.Run() }()
		defer w.Close()
		o, express := w.Outbox(0), w.Express()
		put := func(o *mux.Outbox, f string) {
			t.Helper()
			if err := o.Put([]byte(f)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		put(o, "before ")
		if sent := w.Park(); sent != uint64(len("before ")) {
			t.Errorf("%d bytes sent", sent)
		}
		put(o, "parked")
		put(express, "express ")
		if err := o.WriteNow([]byte(" now")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := g.got.String(); got != "before express " {
			t.Errorf("written %q", got)
		}
		w.Unpark()
		synctest.Wait()
		if got := g.got.String(); got != "before express parked now" {
			t.Errorf("written %q", got)
		}
	})
}

// What is due for bytes is paid once: when they were taken, or with the end of the inbox.
func TestPushFor(t *testing.T) {
	t.Parallel()
	in := mux.NewInbox(mux.InboxConfig{Memory: 10})
	var paid []int
	push := func(n int) {
		number := len(paid) + 1
		_ = in.PushFor(make([]byte, n), func() { paid = append(paid, number) })
	}
	push(4)
	in.Took(3)
	if len(paid) != 0 {
		t.Errorf("paid early: %v", paid)
	}
	in.Took(1)
	if len(paid) != 1 {
		t.Errorf("paid %v", paid)
	}
	push(20) // Refused.
	push(0)
	if len(paid) != 3 {
		t.Errorf("what is not kept: paid %v", paid)
	}
	push(5)
	in.Drop()
	push(5)
	if len(paid) != 5 {
		t.Errorf("dropped: paid %v", paid)
	}
}
