package client_test

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// bulkGen is the first generation with raw records.
const bulkGen wire.Generation = 8

// dialBulk makes a connection with flows, and returns the window that the peer has.
func dialBulk(t *testing.T, c *client.Client, p *peer) (conn *client.Conn, id uint32, offer *wire.BulkOffer) {
	t.Helper()
	wait := background(func() {
		f, _ := p.next()
		req, ok := p.message(f).(*wire.TCPConnect)
		if !ok || req.Bulk == nil {
			t.Error("no offer of records")
			return
		}
		id, offer = f.ID, req.Bulk
		p.send(id, new(wire.TCPConnected))
		p.accepts(id, offer)
	})
	got, err := c.Dial("tcp", "127.0.0.1:80")
	wait()
	if err != nil || t.Failed() {
		t.Fatal(err)
	}
	own, ok := got.(*client.Conn)
	if !ok {
		t.Fatalf("dialed a %T", got)
	}
	return own, id, offer
}

// accepts agrees to the offer of a connection.
func (p *peer) accepts(id uint32, o *wire.BulkOffer) {
	p.send(id, &wire.BulkAccepted{
		Kind: wire.BulkTCP, Flows: wire.FlowHostToGuest | wire.FlowGuestToHost, Format: o.Format,
		MaxRecordPayload: o.MaxRecordPayload, HostToGuestCreditLimit: 1 << 20, GuestToHostCreditLimit: o.GuestToHostCreditLimit,
	})
}

// records sends size bytes from an offset on.
func (p *peer) records(id uint32, offset, size, record uint64) {
	for end := offset + size; offset < end; offset += record {
		n := min(record, end-offset)
		head := make([]byte, wire.RecordHead)
		wire.PutRecordHead(head, wire.BulkTCP, wire.FlowGuestToHost, offset)
		p.raw(id, frame.Bulk, string(head)+string(make([]byte, n)))
	}
}

// An agent that agrees a second time gets no second window: what is not read is
// bounded by the first alone.
func TestAcceptedTwice(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		conn, id, offer := dialBulk(p.t, c, p)
		wait := background(func() {
			p.records(id, 0, offer.GuestToHostCreditLimit, uint64(offer.MaxRecordPayload))
			p.accepts(id, offer)
			p.expect(new(wire.TCPClose))
		})
		wait()
		n, err := io.Copy(io.Discard, conn)
		bad, ok := errors.AsType[*client.FrameError](err)
		if n != int64(offer.GuestToHostCreditLimit) || !ok || bad.Type != wire.TypeBulkAccepted {
			p.t.Errorf("read %d bytes, then %v", n, err)
		}
	})
}

// What is discarded is consumed too: a peer that sends more than half of the window
// before that can go on to its end.
func TestCloseReadGrants(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		conn, id, offer := dialBulk(p.t, c, p)
		window := offer.GuestToHostCreditLimit
		p.records(id, 0, window, uint64(offer.MaxRecordPayload))
		synctest.Wait()
		if err := conn.CloseRead(); err != nil {
			p.t.Error(err)
		}
		p.expect(&wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost, ConsumedOffset: window, CreditLimit: 2 * window})
		p.records(id, window, 10, 10)
		p.send(id, &wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost, FinalOffset: window + 10})
		wait := background(func() { _ = conn.CloseWrite() })
		p.expect(&wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest})
		wait()
		p.expect(new(wire.TCPClose)) // Both halves have ended.
	})
}

// CloseWrite ends a Write that waits for credit.
func TestCloseWriteEndsWrite(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		conn, _, _ := dialBulk(p.t, c, p)
		go p.ignore()
		var n int
		var err error
		wait := background(func() { n, err = conn.Write(make([]byte, 2<<20)) })
		time.Sleep(time.Second)
		if err := conn.CloseWrite(); err != nil {
			p.t.Error(err)
		}
		wait()
		if n != 1<<20 || !errors.Is(err, syscall.EPIPE) {
			p.t.Errorf("Write = %d, %v, want what was granted and EPIPE", n, err)
		}
		_ = p.conn.Close()
		_ = conn.Close()
	})
}

// A context that ends while a call looks away says nothing about ids that nobody
// has: a relay ends a client that speaks on id 0.
func TestContextEndsBetween(t *testing.T) {
	for range 100 {
		script(t, bulkGen, func(c *client.Client, p *peer) {
			wait := background(func() {
				p.opens(wire.OpenOptions{Read: true, Write: true})
				for {
					f, ok := p.next()
					if !ok {
						return
					}
					if f.ID == 0 {
						p.t.Errorf("a frame without an id: %#v", p.message(f))
					}
				}
			})
			file, err := c.OpenFile(context.Background(), "/f", os.O_RDWR, 0)
			if err != nil {
				p.t.Fatal(err)
			}
			file.Ended(errors.New("over"))
			_ = c.Close()
			wait()
		})
	}
}

// An agent that answers before it is asked makes nobody wait for ever.
func TestAnsweredEarly(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		go p.ignore()
		if err := c.Early(); err == nil {
			p.t.Error("connected")
		}
	})
}
