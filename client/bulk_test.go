package client_test

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
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
		if n != int64(offer.GuestToHostCreditLimit) || !ok || bad.Type != string(wire.TypeBulkAccepted) {
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

// An agent that answers before a request makes no call wait for ever.
func TestAnsweredEarly(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		go p.ignore()
		if err := c.Early(); err == nil {
			p.t.Error("connected")
		}
	})
}

// What Read has read is granted anew, or a peer would stop at its first window.
func TestReadGrants(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		conn, id, offer := dialBulk(p.t, c, p)
		window := offer.GuestToHostCreditLimit
		p.records(id, 0, window, uint64(offer.MaxRecordPayload))
		wait := background(func() {
			f, _ := p.next()
			m, ok := p.message(f).(*wire.BulkCredit)
			if !ok || m.Flow != wire.FlowGuestToHost || m.ConsumedOffset == 0 || m.CreditLimit != m.ConsumedOffset+window {
				p.t.Errorf("got %+v", m)
			}
			p.ignore()
		})
		if _, err := io.ReadFull(conn, make([]byte, window)); err != nil {
			p.t.Error(err)
		}
		synctest.Wait()
		_ = p.conn.Close()
		wait()
	})
}

// A client offers what SetBulk has said, within its bounds and those of a connection,
// which holds no more and shares the link with others.
func TestSetBulk(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  *client.Bulk
		want *wire.BulkOffer
	}{
		{"unset", nil, &wire.BulkOffer{Format: 1, MaxRecordPayload: 128 << 10, GuestToHostCreditLimit: client.ConnLimit}},
		{"zero", &client.Bulk{}, &wire.BulkOffer{Format: 1, MaxRecordPayload: 128 << 10, GuestToHostCreditLimit: client.ConnLimit}},
		{"off", &client.Bulk{Off: true}, nil},
		{"given", &client.Bulk{Record: 64 << 10, Window: 2 << 20}, &wire.BulkOffer{Format: 1, MaxRecordPayload: 64 << 10, GuestToHostCreditLimit: 2 << 20}},
		{"too much", &client.Bulk{Record: 1 << 30, Window: 1 << 30}, &wire.BulkOffer{Format: 1, MaxRecordPayload: 256 << 10, GuestToHostCreditLimit: client.ConnLimit}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			script(t, bulkGen, func(c *client.Client, p *peer) {
				if tt.set != nil {
					c.SetBulk(*tt.set)
				}
				wait := background(func() {
					f, _ := p.next()
					if req, ok := p.message(f).(*wire.TCPConnect); !ok || !reflect.DeepEqual(req.Bulk, tt.want) {
						p.t.Errorf("offered %+v, want %+v", req.Bulk, tt.want)
					}
					p.send(f.ID, &wire.TCPFailed{Error: "no"})
				})
				if _, err := c.Dial("tcp", "127.0.0.1:80"); err == nil {
					p.t.Error("connected")
				}
				wait()
			})
		})
	}
}

// A long write offers records, and one whose context ends cancels its flow: the
// guest would wait for the rest.
func TestContextEndsRecords(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		const size = 300 << 10
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		opened := background(func() { p.opens(wire.OpenOptions{Write: true}) })
		file, err := c.OpenFile(ctx, "/f", os.O_WRONLY, 0)
		opened()
		if err != nil {
			p.t.Fatal(err)
		}
		wait := background(func() {
			f, _ := p.next()
			req, ok := p.message(f).(*wire.FSRequest)
			if !ok || req.Bulk == nil {
				p.t.Error("no offer of records")
				return
			}
			p.send(f.ID, &wire.BulkAccepted{
				Kind: wire.BulkFS, Flows: wire.FlowHostToGuest, Format: 1,
				MaxRecordPayload: req.Bulk.MaxRecordPayload, HostToGuestCreditLimit: 1 << 20,
			})
			for got := 0; got < size; {
				r, _ := p.next()
				got += len(r.Body) - wire.RecordHead
			}
			cancel()
			p.expect(&wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "given up by the caller"})
		})
		if n, err := file.Write(make([]byte, size)); n != size || err != nil {
			p.t.Errorf("Write = %d, %v", n, err)
		}
		wait()
	})
}
