package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// twoPorts is script for an agent with a port for records.
func twoPorts(t *testing.T, play func(c *client.Client, p *peer)) {
	t.Helper()
	scriptReady(t, bulkGen, wire.Ready{BulkTransport: new(wire.BulkTransport)}, play)
}

// merges are all the ways to put two sequences into one, as which of them is next.
func merges(control, records int) (all [][]bool) {
	if control == 0 && records == 0 {
		return [][]bool{nil}
	}
	if control > 0 {
		for _, rest := range merges(control-1, records) {
			all = append(all, append([]bool{false}, rest...))
		}
	}
	if records > 0 {
		for _, rest := range merges(control, records-1) {
			all = append(all, append([]bool{true}, rest...))
		}
	}
	return all
}

// play sends what two ports have for a session, in one order.
func (p *peer) play(order []bool, control, records []func()) {
	for _, record := range order {
		from := &control
		if record {
			from = &records
		}
		(*from)[0]()
		*from = (*from)[1:]
		synctest.Wait() // It has been acted on.
	}
}

func (p *peer) record(id uint32, kind wire.BulkKind, offset int, data []byte) func() {
	return func() {
		b, err := wire.AppendRecord(nil, id, wire.Record{Kind: kind, Flow: wire.FlowGuestToHost, Offset: uint64(offset), Data: data})
		if err != nil {
			p.t.Error(err)
		}
		p.write(b)
	}
}

func (p *peer) says(id uint32, m wire.Message) func() { return func() { p.send(id, m) } }

// fileBytes are some that are worth a flow.
func fileBytes() []byte {
	b := make([]byte, 300<<10)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// A file that is read is whole whatever the two ports bring first, and its end is not
// told before its bytes.
//
//holds:wire 14: records by the second port alone, with the right incarnation; both orders of everything
func TestFileByTwoPorts(t *testing.T) {
	want := fileBytes()
	const half = 128 << 10 // As long as a record may be.
	for _, order := range merges(3, 3) {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			twoPorts(t, func(c *client.Client, p *peer) {
				f := open(p.t, c, p, os.O_RDONLY)
				wait := background(func() {
					q, _ := p.next()
					req, ok := p.message(q).(*wire.FSRequest)
					if !ok || req.Bulk == nil {
						p.t.Error("no offer of records")
						return
					}
					p.play(order, []func(){
						p.says(q.ID, &wire.BulkAccepted{
							Kind: wire.BulkFS, Flows: wire.FlowGuestToHost, Format: 1,
							MaxRecordPayload: half, GuestToHostCreditLimit: req.Bulk.GuestToHostCreditLimit,
						}),
						p.says(q.ID, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowGuestToHost, FinalOffset: uint64(len(want))}),
						p.says(q.ID, &wire.FSResponse{OK: true}),
					}, []func(){
						p.record(q.ID, wire.BulkFS, 0, want[:half]),
						p.record(q.ID, wire.BulkFS, half, want[half:2*half]),
						p.record(q.ID, wire.BulkFS, 2*half, want[2*half:]),
					})
					p.ignore()
				})
				got := make([]byte, len(want))
				n, err := f.ReadAt(got, 0)
				if err != nil || !bytes.Equal(got, want) {
					p.t.Errorf("%d bytes, %v", n, err)
				}
				_ = p.conn.Close()
				wait()
			})
		})
	}
}

// So it is with a connection.
//
//holds:wire 14: records by the second port alone, with the right incarnation; both orders of everything
func TestConnByTwoPorts(t *testing.T) {
	want := fileBytes()[:100<<10]
	const half = 50 << 10
	for _, order := range merges(4, 2) {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			twoPorts(t, func(c *client.Client, p *peer) {
				wait := background(func() {
					q, _ := p.next()
					req, ok := p.message(q).(*wire.TCPConnect)
					if !ok || req.Bulk == nil {
						p.t.Error("no offer of records")
						return
					}
					go p.ignore()
					p.play(order, []func(){
						p.says(q.ID, new(wire.TCPConnected)),
						func() { p.accepts(q.ID, req.Bulk) },
						p.says(q.ID, &wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost, FinalOffset: uint64(len(want))}),
						p.says(q.ID, new(wire.TCPClosed)),
					}, []func(){
						p.record(q.ID, wire.BulkTCP, 0, want[:half]),
						p.record(q.ID, wire.BulkTCP, half, want[half:]),
					})
				})
				conn, err := c.Dial("tcp", "127.0.0.1:80")
				if err != nil {
					p.t.Fatal(err)
				}
				got, err := io.ReadAll(conn)
				if err != nil || !bytes.Equal(got, want) {
					p.t.Errorf("%d bytes, %v", len(got), err)
				}
				_ = conn.Close()
				wait()
			})
		})
	}
}

// A read whose last records never come ends with its context; and what was kept for
// it is not taken for the end of another.
//
//holds:wire 14: slips, stale records, ends
func TestRecordsThatNeverCome(t *testing.T) {
	twoPorts(t, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithCancel(t.Context())
		wait := background(func() {
			p.opens(wire.OpenOptions{Read: true})
			q, _ := p.next()
			req, ok := p.message(q).(*wire.FSRequest)
			if !ok || req.Bulk == nil {
				t.Error("no offer of records")
				return
			}
			p.send(q.ID, &wire.BulkAccepted{
				Kind: wire.BulkFS, Flows: wire.FlowGuestToHost, Format: 1, MaxRecordPayload: 16 << 10,
				GuestToHostCreditLimit: req.Bulk.GuestToHostCreditLimit,
			})
			p.send(q.ID, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowGuestToHost, FinalOffset: 100})
			p.send(q.ID, &wire.FSResponse{OK: true})
			synctest.Wait()
			cancel()
			p.ignore()
		})
		late, err := c.Open(ctx, "/f")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := late.ReadAt(make([]byte, 300<<10), 0); n != 0 || err == nil {
			t.Errorf("ReadAt = %d, %v", n, err)
		}
		_ = p.conn.Close()
		wait()
	})
}

// On one port nothing may be early: a record before the agent's consent ends it.
func TestEarlyRecordOnOnePort(t *testing.T) {
	script(t, bulkGen, func(c *client.Client, p *peer) {
		f := open(p.t, c, p, os.O_RDONLY)
		wait := background(func() {
			q, _ := p.next()
			p.raw(q.ID, frame.Bulk, string(make([]byte, wire.RecordHead+1)))
			p.record(q.ID, wire.BulkFS, 0, []byte("early"))()
			p.ignore()
		})
		if n, err := f.ReadAt(make([]byte, 300<<10), 0); n != 0 || err == nil {
			p.t.Errorf("ReadAt = %d, %v", n, err)
		}
		_ = p.conn.Close()
		wait()
	})
}
