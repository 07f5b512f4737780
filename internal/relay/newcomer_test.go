package relay_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A door is a listener within the process.
type door struct {
	conns chan net.Conn
	shut  chan struct{}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	close(d.shut)
	return nil
}

func (*door) Addr() net.Addr { return &net.UnixAddr{} }

// knock comes to the door of a relay.
func (w *world) knock(d *door) *peer {
	near, far := net.Pipe()
	d.conns <- far
	synctest.Wait()
	return newPeer(w.t, near)
}

// Who comes when all slots are taken is sent away; when one of them is about to be
// free, that one is waited for, for five seconds.
func TestNewcomer(t *testing.T) {
	play(t, func(w *world) {
		d := &door{conns: make(chan net.Conn), shut: make(chan struct{})}
		w.Serve(d)
		leaving := w.connect()
		for range frame.Slots - 1 {
			w.connect()
		}
		w.knock(d).gone()

		w.start(leaving, leaving.start)
		leaving.leave()
		w.guest.expect(words(t).Kill(leaving.start))
		waits := w.knock(d)
		waits.silent()
		w.guest.send(message(t, leaving.start, &wire.ExecExited{Code: -1}))
		w.guest.expect(left(t, leaving.start, leaving.end), words(t).Probe(leaving.end-1))
		waits.silent()
		w.guest.send(message(t, leaving.end-1, &wire.Pong{}))
		waits.greeted()
		if waits.start != leaving.start {
			t.Errorf("ids from %d on, want those of who left", waits.start)
		}

		w.start(waits, waits.start)
		waits.leave()
		w.guest.expect(words(t).Kill(waits.start))
		begin := time.Now()
		w.knock(d).gone()
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("sent away after %v", took)
		}
	})
}

// A client that is the last to stay has the link wait for it, as one that was alone
// from the beginning has.
func TestLastToStay(t *testing.T) {
	play(t, func(w *world) {
		stays, goes := w.connect(), w.connect()
		w.hear(stays)
		w.hear(goes)
		w.depart(goes)
		flood := raw(stays.start, 0, strings.Repeat("x", 1<<20))
		sent := 0
		go func() {
			for range 8 {
				if _, err := w.guest.conn.Write(flood); err != nil {
					return
				}
				sent++
			}
		}()
		synctest.Wait()
		if sent == 8 {
			t.Error("the link does not wait")
		}
		stays.expect(flood, flood, flood, flood, flood, flood, flood, flood)
		synctest.Wait()
	})
}
