package contract

import (
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/wire"
)

// An exchange is what is sent about one flow, and all that is answered after the request has
// been accepted.
type exchange struct {
	name string
	send []any // wire.Message or wire.Record.
	want []wire.Message
}

const (
	leastRecord = 16384
	usualWindow = 8 << 20 // What the guest grants at first.
)

// recordRules are what agents of generation 9 answer about raw records (protocol section
// 12).
func recordRules() []Rule {
	return []Rule{
		{Name: "records: offers on requests that move nothing", Check: needlessOffers},
		{Name: "records: bad offers to connect", Check: badConnectOffers, Machine: true},
		{Name: "records: writes", Check: recordWrites},
		{Name: "records: connections", Check: recordTalks, Machine: true},
		{Name: "records: ids that have had no session", Check: recordsOfNobody},
		{Name: "records: acceptance from the host", Check: acceptedByHost},
	}
}

func offerOf(format uint16, record uint32, limit uint64) *wire.BulkOffer {
	return &wire.BulkOffer{Format: format, MaxRecordPayload: record, GuestToHostCreditLimit: limit}
}

func refusedFile(why string) wire.Message { return &wire.FSResponse{Error: &why} }

func canceled(kind wire.BulkKind, why string) wire.Message {
	return &wire.BulkCancel{Kind: kind, Reason: wire.CancelProtocol, Message: why}
}

func needlessOffers(h *Host) error {
	for _, op := range []wire.FSOp{&wire.OpStat{Path: "/"}, &wire.OpRealPath{Path: "/"}, &wire.OpList{Path: "/"}} {
		id := h.ID()
		err := h.Put(id, &wire.FSRequest{Op: op, Bulk: offerOf(1, leastRecord, 1)})
		if err == nil {
			err = h.wants(id, refusedFile("raw bulk is only valid for streaming reads and writes"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func badConnectOffers(h *Host) error {
	for _, c := range []struct {
		offer *wire.BulkOffer
		text  string
	}{
		{offerOf(2, leastRecord, 1), "invalid TCP bulk offer: unsupported bulk format 2"},
		{offerOf(0, leastRecord, 1), "invalid TCP bulk offer: unsupported bulk format 0"},
		{offerOf(1, leastRecord-1, 1), "invalid TCP bulk offer: invalid maximum bulk record payload 16383"},
		{offerOf(1, 3<<20+1, 1), "invalid TCP bulk offer: invalid maximum bulk record payload 3145729"},
		{offerOf(1, leastRecord, 0), "TCP bulk offer must grant guest-to-host credit"},
		{
			offerOf(1, leastRecord, 32<<20+1),
			"invalid TCP bulk offer: invalid bulk credit: initial guest-to-host limit 33554433 exceeds 33554432",
		},
	} {
		id, err := h.connected(EchoPort, c.offer)
		if err == nil {
			err = h.wants(id, &wire.TCPFailed{Error: c.text})
		}
		if err != nil {
			return err
		}
	}
	return h.Settle(none)
}

// run has one exchange on an id whose request has been accepted.
func (x exchange) run(h *Host, id uint32) error {
	for _, what := range x.send {
		var err error
		switch what := what.(type) {
		case wire.Record:
			err = h.Record(id, what)
		case wire.Message:
			err = h.Put(id, what)
		}
		if err != nil {
			return err
		}
	}
	for _, want := range x.want {
		if err := h.wants(id, want); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
	return nil
}

func recordWrites(h *Host) error {
	piece := func(at uint64, data string) wire.Record {
		return wire.Record{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, Offset: at, Data: []byte(data)}
	}
	finish := func(at uint64) wire.Message {
		return &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: at}
	}
	protocol := func(why string) []wire.Message {
		return []wire.Message{canceled(wire.BulkFS, why), refusedFile(why)}
	}
	written := []wire.Message{&wire.FSResponse{OK: true}}
	handle, err := h.open("/tmp/records")
	if err != nil {
		return err
	}
	for _, x := range []exchange{
		{"exact", []any{piece(0, "ab"), piece(2, "cde"), finish(5)}, written},
		{"an early finish", []any{finish(5), piece(0, "abcde")}, written},
		{"short", []any{piece(0, "abc"), finish(3)}, []wire.Message{refusedFile("write length mismatch: expected 5, wrote 3")}},
		{"long", []any{piece(0, "abcdef")}, []wire.Message{refusedFile("write length mismatch: expected 5, received at least 6")}},
		{"a wrong offset", []any{piece(5, "a")}, protocol("invalid filesystem bulk record: bulk record offset 5 does not match expected 0")},
		{
			"a finish below",
			[]any{piece(0, "abc"), finish(2)},
			protocol("invalid filesystem bulk finish: bulk finish offset 2 does not match expected 3"),
		},
		{
			"a long record",
			[]any{piece(0, string(make([]byte, leastRecord+1)))},
			protocol("invalid filesystem bulk record: invalid bulk record payload length 16385 (max 16384)"),
		},
		{
			"messages",
			[]any{&wire.FSData{Data: []byte("x")}},
			[]wire.Message{refusedFile("CBOR filesystem data is invalid after raw bulk acceptance")},
		},
		{"given up", []any{&wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "enough"}}, []wire.Message{refusedFile("enough")}},
	} {
		id, length := h.ID(), uint64(5)
		err := h.Put(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle, Len: &length}, Bulk: offerOf(1, leastRecord, 0)})
		if err == nil {
			err = h.wants(id, &wire.BulkAccepted{
				Kind: wire.BulkFS, Flows: wire.FlowHostToGuest, Format: 1, MaxRecordPayload: leastRecord, HostToGuestCreditLimit: usualWindow,
			})
		}
		if err == nil {
			err = x.run(h, id)
		}
		if err != nil {
			return err
		}
	}
	return h.Settle(none)
}

// recordTalks breaks the rules of connections: no cancel comes then.
func recordTalks(h *Host) error {
	piece := func(at uint64) wire.Record {
		return wire.Record{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, Offset: at, Data: []byte("hello")}
	}
	finish := func(at uint64) wire.Message {
		return &wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, FinalOffset: at}
	}
	failed := func(why string) []wire.Message { return []wire.Message{&wire.TCPFailed{Error: why}} }
	for _, x := range []exchange{
		{"a wrong offset", []any{piece(5)}, failed("invalid TCP bulk record: bulk record offset 5 does not match expected 0")},
		{"a finish below", []any{piece(0), finish(2)}, failed("invalid TCP bulk finish: bulk finish offset 2 does not match expected 5")},
		{"messages", []any{&wire.TCPData{Data: []byte("x")}}, failed("CBOR TCP data is invalid after raw bulk acceptance")},
		{"an end by message", []any{&wire.TCPEOF{}}, failed("CBOR TCP EOF is invalid after raw bulk acceptance")},
		{"given up", []any{&wire.BulkCancel{Kind: wire.BulkTCP, Reason: wire.CancelCaller, Message: "stop"}}, failed("stop")},
		{
			"credit beyond",
			[]any{&wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost, ConsumedOffset: 5, CreditLimit: 2000}},
			failed("invalid TCP bulk credit: invalid bulk credit: peer consumed bytes the sender has not admitted"),
		},
		{
			"credit for the other flow",
			[]any{&wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, CreditLimit: 2000}},
			failed("invalid TCP bulk credit: bulk kind or flow does not match the correlation"),
		},
	} {
		// A peer that says nothing by itself, so that only slips are answered.
		id, err := h.connected(DeafPort, offerOf(1, 1<<20, 1000))
		if err == nil {
			err = h.wants(id, &wire.BulkAccepted{
				Kind: wire.BulkTCP, Flows: wire.FlowHostToGuest | wire.FlowGuestToHost, Format: 1, MaxRecordPayload: 256 << 10,
				HostToGuestCreditLimit: usualWindow, GuestToHostCreditLimit: 1000,
			})
		}
		if err == nil {
			err = x.run(h, id)
		}
		if err != nil {
			return err
		}
		h.Drop(id, id+1)
	}
	return h.Settle(none)
}

// recordsOfNobody speaks of flows on ids that have had no session.
func recordsOfNobody(h *Host) error {
	for _, c := range []struct {
		send any
		want func(id uint32) []wire.Message
	}{
		{wire.Record{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, Data: []byte("x")}, unknownFile("write")},
		{wire.Record{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest, Data: []byte("x")}, unknownConn},
		{&wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest}, unknownFile("write")},
		{&wire.BulkFinish{Kind: wire.BulkTCP, Flow: wire.FlowHostToGuest}, unknownConn},
		{&wire.BulkCredit{Kind: wire.BulkFS, Flow: wire.FlowGuestToHost}, unknownFile("read")},
		{&wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost}, func(uint32) []wire.Message { return nil }},
		{
			&wire.BulkCancel{Kind: wire.BulkFS, Reason: wire.CancelCaller, Message: "m"},
			func(uint32) []wire.Message { return []wire.Message{refusedFile("m")} },
		},
		{
			&wire.BulkCancel{Kind: wire.BulkTCP, Reason: wire.CancelCaller, Message: "m"},
			func(uint32) []wire.Message { return []wire.Message{&wire.TCPFailed{Error: "m"}} },
		},
	} {
		id := h.ID()
		if err := (exchange{fmt.Sprintf("%T", c.send), []any{c.send}, c.want(id)}).run(h, id); err != nil {
			return err
		}
	}
	return h.Settle(none)
}

func unknownFile(use string) func(id uint32) []wire.Message {
	return func(id uint32) []wire.Message {
		why := fmt.Sprintf("unknown filesystem %s session: %d", use, id)
		return []wire.Message{canceled(wire.BulkFS, why), refusedFile(why)}
	}
}

func unknownConn(id uint32) []wire.Message {
	why := fmt.Sprintf("unknown TCP session: %d", id)
	return []wire.Message{canceled(wire.BulkTCP, why), &wire.TCPFailed{Error: why}}
}

func acceptedByHost(h *Host) error {
	id := h.ID()
	m := &wire.BulkAccepted{Kind: wire.BulkFS, Flows: wire.FlowHostToGuest, Format: 1, MaxRecordPayload: leastRecord}
	return errors.Join(h.Put(id, m),
		h.refused(id, m.Type(), wire.ErrorUnsupportedType, "host cannot accept a guest-initiated bulk offer", "", ""))
}
