package contract

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A Rule is a check of an agent of generation 9 by its only host.
type Rule struct {
	Name  string
	Check func(*Host) error

	// Own and Machine are as in a Behaviour.
	Own     string
	Machine bool
	// Freezes says that it needs a kernel that can freeze commands.
	Freezes bool
}

// Rules returns what sections 12, 15 and 16 demand, in the order in which they run.
func Rules() []Rule {
	return slices.Concat(creditRules(), recordRules(), barrierRules(), growthRules())
}

// none is nothing that is parked.
var none wire.TransportCounters

func creditRules() []Rule {
	return []Rule{
		{Name: "credit: every control message", Check: controlIsCounted},
		{Name: "credit: data of no session", Check: strayData},
		{Name: "credit: input that is read", Check: inputRead},
		{Name: "credit: input that nobody reads", Check: inputParked},
		{Name: "credit: input after its reader", Check: inputRefused},
		{Name: "credit: bytes of a file", Check: fileBytes},
		{Name: "credit: bytes of a connection", Check: connectionBytes, Machine: true},
		{Name: "credit: bytes that a peer does not read", Check: connectionParked, Machine: true},
		{Name: "credit: raw records of a file", Check: fileRecords},
		{Name: "credit: 400 pings in one write", Check: pingFlood},
		{Name: "credit: large requests in one write", Check: largeRequests},
		{Name: "credit: more frames than there is credit for", Check: framesAbove, Own: "it ends"},
		{Name: "credit: more bytes than there is credit for", Check: bytesAbove, Own: "it ends"},
		{Name: "credit: freeze with flags", Check: freezeFlags},
		{Name: "credit: freeze and thaw that do not decode", Check: barrierPayloads},
		{Name: "credit: other messages on the id of nobody", Check: pingOfNobody},
	}
}

// controlIsCounted sends each kind of control message, also those that nobody is there for.
func controlIsCounted(h *Host) error {
	id := h.ID()
	start, end := frame.SlotRange(60)
	for _, m := range []wire.Message{
		&wire.Ping{}, &wire.Touch{}, &wire.ExecSignal{Signal: 15}, &wire.ExecResize{Rows: 1, Cols: 1}, &wire.TCPClose{},
		&wire.FSRequest{Op: &wire.OpStat{Path: "/"}}, &wire.TCPConnect{Host: "127.0.0.1", Port: 1},
		&wire.BulkCredit{Kind: wire.BulkTCP, Flow: wire.FlowGuestToHost}, &wire.RootDiskPrepare{SizeBytes: 4096},
		&wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest}, Shell("exit 3"),
	} {
		if err := h.Put(id, m); err != nil {
			return err
		}
		if err := h.Settle(none); err != nil {
			return fmt.Errorf("%s: %w", m.Type(), err)
		}
		id = h.ID()
	}
	if err := h.Put(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end}); err != nil {
		return err
	}
	lease := wire.AppendLease(nil, wire.Lease{Event: wire.LeaseGranted, IDStart: start, IDEndExclusive: end, Incarnation: [16]byte{1}})
	if err := h.Raw(0, lease, false); err != nil {
		return err
	}
	return h.Settle(none)
}

// strayData sends data that no session waits for: it is dropped, and its credit comes back.
func strayData(h *Host) error {
	for _, m := range []wire.Message{
		&wire.ExecStdin{Data: []byte("x")}, &wire.FSData{Data: []byte("x")}, &wire.TCPData{Data: []byte("x")}, &wire.TCPEOF{},
	} {
		if err := h.Put(h.ID(), m, m); err != nil {
			return err
		}
		if err := h.Settle(none); err != nil {
			return fmt.Errorf("%s: %w", m.Type(), err)
		}
	}
	for _, kind := range []wire.BulkKind{wire.BulkFS, wire.BulkTCP} {
		if err := h.Record(h.ID(), wire.Record{Kind: kind, Flow: wire.FlowHostToGuest, Data: []byte("x")}); err != nil {
			return err
		}
		if err := h.Settle(none); err != nil {
			return fmt.Errorf("record: %w", err)
		}
	}
	return nil
}

// inputRead sends more frames than the limit to a command that reads.
func inputRead(h *Host) error {
	id, err := h.starts("cat >/dev/null")
	if err != nil {
		return err
	}
	for range 270 {
		if err := h.Put(id, &wire.ExecStdin{Data: bytes.Repeat([]byte{'x'}, 20_000)}); err != nil {
			return err
		}
		if h.Sent.BulkFrames%100 == 0 {
			if err := h.Settle(none); err != nil {
				return err
			}
		}
	}
	if err := h.Put(id, &wire.ExecStdin{}); err != nil {
		return err
	}
	return first(func() error { return h.Settle(none) }, func() error { return h.wants(id, &wire.ExecExited{}) })
}

// inputParked leaves input unread: only what a pipe holds comes back, and the rest at once
// when the command ends.
func inputParked(h *Host) error {
	id, err := h.starts("exec sleep 1000")
	if err != nil {
		return err
	}
	const pipe = 64 << 10
	if err := h.Put(id, &wire.ExecStdin{Data: make([]byte, pipe)}); err != nil {
		return err
	}
	if err := h.Settle(none); err != nil {
		return err
	}
	before := h.Sent
	for range 10 {
		if err := h.Put(id, &wire.ExecStdin{Data: make([]byte, 100_000)}); err != nil {
			return err
		}
	}
	parked := wire.TransportCounters{BulkBytes: h.Sent.BulkBytes - before.BulkBytes, BulkFrames: 10}
	if err := h.Put(h.ID(), &wire.Ping{}); err != nil {
		return err
	}
	if err := h.Settle(parked); err != nil {
		return err
	}
	return first(func() error { return h.ends(id) }, func() error { return h.Settle(none) })
}

// inputRefused sends to a command that has closed its input.
func inputRefused(h *Host) error {
	id, err := h.starts("exec <&-; echo closed; exec sleep 1000")
	if err != nil {
		return err
	}
	if r, err := h.Take(id); err != nil || r.Type != wire.TypeExecStdout {
		return fmt.Errorf("%s, %w", r.Type, err)
	}
	for range 3 {
		if err := h.Put(id, &wire.ExecStdin{Data: []byte("late")}); err != nil {
			return err
		}
		r, err := h.Take(id)
		if err != nil || r.Type != wire.TypeExecStdinError {
			return fmt.Errorf("%s %+v, %w", r.Type, r.Message, err)
		}
	}
	return first(func() error { return h.ends(id) }, func() error { return h.Settle(none) })
}

// open opens a file for writing.
func (h *Host) open(path string) (uint64, error) {
	id := h.ID()
	err := h.Put(id, &wire.FSRequest{Op: &wire.OpOpenFile{Path: path, Options: wire.OpenOptions{Read: true, Write: true, Create: true, Truncate: true}}})
	if err != nil {
		return 0, err
	}
	r, err := h.Take(id)
	if err != nil {
		return 0, err
	}
	if m, ok := r.Message.(*wire.FSResponse); ok && m.OK {
		if got, ok := m.Data.(*wire.ResultHandle); ok {
			return got.Handle, nil
		}
	}
	return 0, fmt.Errorf("open %s: %+v", path, r.Message)
}

// fileBytes writes a file by messages, and sends what a refused write leaves.
func fileBytes(h *Host) error {
	handle, err := h.open("/tmp/credit")
	if err != nil {
		return err
	}
	id, total := h.ID(), uint64(2_000_000)
	if err := h.Put(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle, Len: &total}}); err != nil {
		return err
	}
	for range 20 {
		if err := h.Put(id, &wire.FSData{Data: make([]byte, total/20)}); err != nil {
			return err
		}
	}
	if err := h.Put(id, &wire.FSData{}); err != nil {
		return err
	}
	if r, err := h.Take(id); err != nil || r.Type != wire.TypeFSResponse {
		return fmt.Errorf("%s, %w", r.Type, err)
	}
	if err := h.Settle(none); err != nil {
		return err
	}
	bad := h.ID()
	one := uint64(1)
	if err := h.Put(bad, &wire.FSRequest{Op: &wire.OpWrite{Handle: 1 << 40, Len: &one}}, &wire.FSData{Data: []byte("x")}); err != nil {
		return err
	}
	err = h.Settle(none)
	h.Drop(bad, bad+1)
	return err
}

// connected connects to a port of [Serve].
func (h *Host) connected(port uint16, bulk *wire.BulkOffer) (uint32, error) {
	id := h.ID()
	if err := h.Put(id, &wire.TCPConnect{Host: "127.0.0.1", Port: port, Bulk: bulk}); err != nil {
		return id, err
	}
	return id, h.wants(id, &wire.TCPConnected{})
}

func connectionBytes(h *Host) error {
	id, err := h.connected(TailPort, nil)
	if err != nil {
		return err
	}
	for range 10 {
		if err := h.Put(id, &wire.TCPData{Data: make([]byte, 100_000)}); err != nil {
			return err
		}
	}
	err = first(func() error { return h.Settle(none) },
		func() error { return h.Put(id, &wire.TCPEOF{}) }, func() error { return h.Settle(none) })
	h.Drop(id, id+1)
	return err
}

// connectionParked floods a peer that never reads, and closes the connection.
func connectionParked(h *Host) error {
	id, err := h.connected(DeafPort, nil)
	if err != nil {
		return err
	}
	before := h.Sent
	for range 200 { // 20 MB, more than both sockets' buffers.
		if err := h.Put(id, &wire.TCPData{Data: make([]byte, 100_000)}); err != nil {
			return err
		}
	}
	all := wire.TransportCounters{BulkBytes: h.Sent.BulkBytes - before.BulkBytes, BulkFrames: h.Sent.BulkFrames - before.BulkFrames}
	if err := h.quietest(); err != nil {
		return err
	}
	if least := h.Limit(all); h.last == nil || h.last.BulkFrames < least.BulkFrames || h.last.BulkFrames > h.Limit(none).BulkFrames-50 {
		return fmt.Errorf("20 MB that nobody reads: the limit is %+v of %+v", h.last, h.Limit(none))
	}
	return first(func() error { return h.Put(id, &wire.TCPClose{}) }, func() error { return h.Settle(none) })
}

// quietest takes credit until none comes.
func (h *Host) quietest() error {
	for h.quiet("credit") != nil {
		if h.Ctx.Err() != nil {
			return h.Ctx.Err()
		}
	}
	for h.waits(wire.WorkloadID) {
		r, err := h.Take(wire.WorkloadID)
		if err != nil {
			return err
		}
		if c, ok := r.Message.(*wire.WorkloadTransportCredit); ok {
			h.last = &c.TransportCounters
		}
	}
	return nil
}

// fileRecords writes a file by raw records.
func fileRecords(h *Host) error {
	handle, err := h.open("/tmp/credit")
	if err != nil {
		return err
	}
	id, total := h.ID(), uint64(1<<20)
	offer := &wire.BulkOffer{Format: 1, MaxRecordPayload: 1 << 20}
	if err := h.Put(id, &wire.FSRequest{Op: &wire.OpWrite{Handle: handle, Len: &total}, Bulk: offer}); err != nil {
		return err
	}
	if r, err := h.Take(id); err != nil || r.Type != wire.TypeBulkAccepted {
		return fmt.Errorf("%s %+v, %w", r.Type, r.Message, err)
	}
	for at := uint64(0); at < total; at += total / 4 {
		r := wire.Record{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, Offset: at, Data: make([]byte, total/4)}
		if err := h.Record(id, r); err != nil {
			return err
		}
	}
	err = h.Put(id, &wire.BulkFinish{Kind: wire.BulkFS, Flow: wire.FlowHostToGuest, FinalOffset: total})
	if err == nil {
		err = h.Settle(none)
	}
	h.Drop(id, id+1)
	return err
}

// pingFlood sends more frames than the limit at once: they are consumed as they come.
func pingFlood(h *Host) error {
	id := h.ID()
	pings := make([]wire.Message, 400)
	for i := range pings {
		pings[i] = &wire.Ping{}
	}
	if err := h.Put(id, pings...); err != nil {
		return err
	}
	for range pings {
		if err := h.wants(id, &wire.Pong{}); err != nil {
			return err
		}
	}
	return h.Settle(none)
}

// largeRequests sends more bytes than the limit at once.
func largeRequests(h *Host) error {
	ids := []uint32{h.ID(), h.ID(), h.ID(), h.ID()}
	for _, id := range ids {
		if err := h.Put(id, &wire.ExecRequest{Cmd: "/bin/true", Args: []string{string(bytes.Repeat([]byte{'x'}, 3_000_000))}}); err != nil {
			return err
		}
	}
	for _, id := range ids {
		r, err := h.Take(id)
		if err != nil || r.Type != wire.TypeExecFailed {
			return fmt.Errorf("%s %+v, %w", r.Type, r.Message, err)
		}
	}
	return h.Settle(none)
}

// framesAbove exceeds the limit by frames: the command's input ends with an error.
func framesAbove(h *Host) error { return above(h, 300, 1) }

// bytesAbove exceeds the limit by bytes.
func bytesAbove(h *Host) error { return above(h, 20, 2<<20) }

func above(h *Host, frames, size int) error {
	id, err := h.starts("exec sleep 1000")
	if err != nil {
		return err
	}
	if err := h.Put(id, &wire.ExecStdin{Data: make([]byte, 1<<20)}); err != nil {
		return err
	}
	for range frames {
		if err := h.Put(id, &wire.ExecStdin{Data: make([]byte, size)}); err != nil {
			return err
		}
	}
	r, err := h.Take(id)
	if err != nil {
		return err
	}
	m, ok := r.Message.(*wire.ExecStdinError)
	if !ok {
		return fmt.Errorf("%s %+v", r.Type, r.Message)
	}
	if err := same("error", m.Message, "host exceeded its transport admission credit"); err != nil {
		return err
	}
	return first(func() error { return h.ends(id) }, func() error { return h.Settle(none) }, func() error { return pingFlood(h) })
}

// freezeFlags sends a freeze with flags: it is answered, and counted.
func freezeFlags(h *Host) error {
	for _, m := range []wire.Message{
		&wire.WorkloadFreeze{AttemptID: "f", HostInput: h.Sent}, &wire.WorkloadThaw{AttemptID: "f", Mode: wire.ThawContinue},
	} {
		b, err := wire.AppendFrame(nil, counts, wire.WorkloadID, m)
		if err != nil {
			return err
		}
		b[frame.HeaderSize-1] = byte(frame.Terminal)
		if err := h.Raw(wire.WorkloadID, b, false); err != nil {
			return err
		}
		text := fmt.Sprintf("invalid flags for %s: got 1, expected 0", m.Type())
		if err := h.refused(wire.WorkloadID, m.Type(), wire.ErrorInvalidFlags, text, "", ""); err != nil {
			return err
		}
		if err := h.Settle(none); err != nil {
			return err
		}
	}
	return nil
}

// barrierPayloads sends what does not decode: it is answered without a disposition, and
// is not counted.
func barrierPayloads(h *Host) error {
	for of, payload := range map[wire.Type]string{
		wire.TypeWorkloadThaw:   "a26a617474656d70745f6964626131646d6f6465636f6464", // An unknown mode.
		wire.TypeWorkloadFreeze: "a16a617474656d70745f6964626131",                   // No counters.
	} {
		b, err := enveloped(wire.WorkloadID, of, payload)
		if err != nil {
			return err
		}
		if err := h.Write(b, wire.WorkloadID); err != nil {
			return err
		}
		if err := h.refused(wire.WorkloadID, of, wire.ErrorInvalidPayload, "decode payload for "+string(of)+": …", "", ""); err != nil {
			return err
		}
	}
	return first(func() error { return h.Put(h.ID(), &wire.Ping{}) }, func() error { return h.Settle(none) })
}

// pingOfNobody sends another message on the id of nobody, which is answered and counted.
func pingOfNobody(h *Host) error {
	if err := h.Put(wire.WorkloadID, &wire.Ping{}); err != nil {
		return err
	}
	r, err := h.Word()
	if err != nil {
		return err
	}
	if r.Type != wire.TypePong {
		return errors.New(string(r.Type))
	}
	return h.Settle(none)
}
