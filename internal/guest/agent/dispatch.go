package agent

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// errorSince is the first generation that has core.error.
const errorSince wire.Generation = 5

// clockTolerance is how far the wall clock may be off before it is set: the host's
// message takes some time to arrive.
const clockTolerance = 100 * time.Millisecond

// handle handles one frame. It never waits for a session.
func (a *Agent) handle(f frame.Frame) End {
	if a.isRaw(f) {
		if c := a.charge(f, f.Flags&frame.Bulk != 0); a.crossed(f, wire.Envelope{}) {
			a.refund(c)
		} else {
			a.raw(f, c)
		}
		return 0
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err == nil && a.isBarrier(f, e) {
		a.latch(f.ID, e)
		return 0
	}
	c := a.charge(f, wire.CountsAsData(e.Type))
	switch {
	case a.crossed(f, e):
	case err != nil:
		a.malformed(f.ID, err)
	case isBytes(e.Type):
		if a.admits(f, e) {
			a.data(f.ID, e, f.Body, c) // Which hands it back.
			return 0
		}
	case a.admits(f, e):
		end := a.decoded(f.ID, e, c)
		a.frames.Reuse(f.Body) // The message has memory of its own.
		return end
	}
	a.refund(c)
	return 0
}

// isBytes reports whether a message is nothing but bytes for a session.
func isBytes(t wire.Type) bool {
	return t == wire.TypeExecStdin || t == wire.TypeFSData || t == wire.TypeTCPData
}

// admits reports whether a frame is valid. It answers one that breaks a rule of
// its type.
func (a *Agent) admits(f frame.Frame, e wire.Envelope) bool {
	info, known := wire.Lookup(e.Type)
	switch {
	case !known:
		a.refuse(f.ID, e, wire.ErrorUnsupportedType, "unknown message type "+string(e.Type))
		return false
	case e.Type == wire.TypeBulkAccepted && a.host.Generation >= wire.BulkSince:
		a.refuse(f.ID, e, wire.ErrorUnsupportedType, "host cannot accept a guest-initiated bulk offer")
		return false
	case f.Flags != info.Flags && e.Generation >= errorSince: // In both directions, as in the reference agents.
		a.refuse(f.ID, e, wire.ErrorInvalidFlags,
			fmt.Sprintf("invalid flags for %s: got %d, expected %d", e.Type, f.Flags, info.Flags))
		return false
	case info.Direction&wire.HostToGuest == 0, e.Type == wire.TypeInitAck, e.Type == wire.TypeBootstrap:
		return false // Late or misdirected: ignored, as by the reference agents.
	case info.Flags&frame.SessionStart != 0 && slotOf(f.ID) == nobody:
		// No client could get the answer, or close what the request opens.
		a.refuse(f.ID, e, wire.ErrorInvalidSession, unowned(f.ID))
		return false
	}
	a.host.Activity.Received(e.Type)
	return true
}

// decoded acts on a message that is not bytes alone.
func (a *Agent) decoded(id uint32, e wire.Envelope, c session.Charge) End {
	defer a.refund(c)
	m, err := wire.Decode(e)
	if err != nil {
		a.refuse(id, e, wire.ErrorInvalidPayload, fmt.Sprintf("decode payload for %s: %v", e.Type, err))
		return 0
	}
	return a.act(id, e, m)
}

// act carries a decoded message out.
func (a *Agent) act(id uint32, e wire.Envelope, m wire.Message) End {
	switch m := m.(type) {
	case *wire.Shutdown:
		return Shutdown
	case *wire.ExecRequest:
		a.command(id, m)
	case *wire.ExecSignal, *wire.ExecResize, *wire.TCPEOF, *wire.KeptConsumed, *wire.KeptDetach:
		a.deliver(id, m)
	case *wire.KeptAttach, *wire.KeptList, *wire.KeptRelease:
		a.kept(id, m)
	case *wire.ClockSync:
		setClock(m)
	case *wire.Ping:
		a.reply(id, &wire.Pong{})
	case *wire.Touch:
		a.reply(id, &wire.Touched{ActivitySeq: a.host.Activity.Touch()})
	case *wire.ClientDisconnected:
		a.left(m)
	case *wire.FSRequest:
		a.file(id, e, m)
	case *wire.TCPConnect:
		a.connect(id, e, m)
	case *wire.TCPClose:
		a.abort(id, m)
	case *wire.BulkCredit, *wire.BulkFinish, *wire.BulkCancel:
		a.flow(id, e, m)
	default:
		a.newest(id, e, m)
	}
	return 0
}

// newest acts on a message of generation 9.
func (a *Agent) newest(id uint32, e wire.Envelope, m wire.Message) {
	if a.host.Generation < wire.BarrierSince {
		a.tooNew(id, e)
		return
	}
	switch m := m.(type) {
	case *wire.WorkloadFreeze, *wire.WorkloadThaw:
		a.workload(id, m)
	case *wire.RootDiskPrepare:
		a.disk(id, e.Type, m.SizeBytes, false)
	case *wire.RootDiskGrow:
		a.disk(id, e.Type, m.SizeBytes, true)
	default:
		a.tooNew(id, e)
	}
}

// tooNew answers a message of a generation that we do not announce.
func (a *Agent) tooNew(id uint32, e wire.Envelope) {
	a.refuse(id, e, wire.ErrorUnsupportedType, string(e.Type)+" needs a newer agent")
}

// data gives a data message to its session. The body is the memory that it came in.
func (a *Agent) data(id uint32, e wire.Envelope, body []byte, c session.Charge) {
	data, err := wire.DataOf(e)
	if err != nil {
		a.refund(c)
		a.refuse(id, e, wire.ErrorInvalidPayload, fmt.Sprintf("decode payload for %s: %v", e.Type, err))
		return
	}
	data = withRoom(data, body)
	if s := a.session(id); s != nil {
		s.Data(e.Type, data, c)
	} else {
		a.refund(c)
		a.stray(id, e)
	}
}

// deliver gives a message to the session on its id, if there is one.
func (a *Agent) deliver(id uint32, m wire.Message) {
	if s := a.session(id); s != nil {
		s.Message(m)
	}
}

// withRoom extends the capacity of data to that of its body, if the data ends the body:
// the memory can then be reused for the next body (frame.Spares).
func withRoom(data, body []byte) []byte {
	at := len(body) - len(data)
	if len(data) == 0 || at < 0 || &data[0] != &body[at] {
		return data
	}
	return body[at:]
}

// stray answers data for an id without a session, as the reference agents do.
func (a *Agent) stray(id uint32, e wire.Envelope) {
	switch {
	case e.Type == wire.TypeExecStdin, a.isLeaving(id):
	case slotOf(id) == nobody:
		a.refuse(id, e, wire.ErrorInvalidSession, unowned(id))
	case e.Type == wire.TypeFSData:
		a.reply(id, fileRefusal("unknown write session: "+number(id)))
	default:
		a.reply(id, &wire.TCPFailed{Error: "unknown TCP session: " + number(id)})
	}
}

func (a *Agent) file(id uint32, e wire.Envelope, req *wire.FSRequest) {
	why := a.fileOffer(id, e, req)
	if why == "" {
		why, _ = a.begin(id, func(ending session.Ending) session.Session {
			return a.files.Start(a.host, id, slotOf(id), req, ending)
		})
	}
	if why != "" {
		a.reply(id, fileRefusal(why))
	}
}

func (a *Agent) connect(id uint32, e wire.Envelope, req *wire.TCPConnect) {
	if why := a.offered(id, e, &req.Bulk); why != "" {
		a.reply(id, &wire.TCPFailed{Error: why})
		return
	}
	what, start, why := a.connection(id, req)
	if why == "" {
		why, _ = a.begin(id, start)
	}
	if why != "" {
		a.reply(id, &wire.TCPFailed{Error: what + why})
	}
}

func fileRefusal(why string) *wire.FSResponse { return &wire.FSResponse{Error: &why} }

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// unowned says why an id cannot have a session: no relay would pass a frame of it on.
func unowned(id uint32) string { return "id " + number(id) + " belongs to no client" }

func (a *Agent) command(id uint32, req *wire.ExecRequest) {
	if why, full := a.begin(id, func(ending session.Ending) session.Session {
		if req.Keep != nil {
			return a.exec.Keep(id, req, ending)
		}
		return a.exec.Start(id, req, ending)
	}); why != "" {
		a.reply(id, refusal(why, full))
	}
}

// begin starts a session on an id, unless that has one or there are too many.
func (a *Agent) begin(id uint32, start func(session.Ending) session.Session) (why string, full bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.sessions[id] != nil:
		return "id " + number(id) + " has a session that runs", false
	case len(a.live) >= maxSessions:
		return "there are " + strconv.Itoa(maxSessions) + " sessions already", true
	}
	s := start(owner{a})
	a.sessions[id], a.live[s] = s, struct{}{}
	return "", false
}

// refusal is the answer to a request that was not begun. full says that there are too many
// sessions, so the host may try again.
func refusal(why string, full bool) *wire.ExecFailed {
	m := &wire.ExecFailed{Kind: wire.FailureOther, Message: "exec session error: " + why}
	if full {
		number, name := int32(syscall.EAGAIN), "EAGAIN"
		m.Kind, m.Errno, m.ErrnoName = wire.FailureResourceLimit, &number, &name
	}
	return m
}

func (a *Agent) session(id uint32) session.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sessions[id]
}

// isLeaving reports whether the terminal frame of the id's last session has not left yet.
// An answer to a frame that the host sent before it received that one could overtake it.
func (a *Agent) isLeaving(id uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.leaving[id]
	return s != nil && !s.Over()
}

// owner is the agent as its sessions see it.
type owner struct{ *Agent }

// Forget frees the id of a session that is about to send its last frame.
func (a owner) Forget(id uint32, s session.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sessions[id] == s {
		delete(a.sessions, id)
		a.leaving[id] = s
	}
}

// Release frees the place of a session whose last frame has left.
func (a owner) Release(id uint32, s session.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.live, s)
	if a.leaving[id] == s {
		delete(a.leaving, id)
		a.ended.add(id)
	}
}

// disconnect detaches a client's sessions. Its commands run on: hosts up to generation 7
// end them by a signal. Its files and connections close. Nothing is sent any more on ids
// that the next client may use.
func (a *Agent) disconnect(start, end uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, table := range []map[uint32]session.Session{a.sessions, a.leaving} {
		for id, s := range table {
			if id >= start && id < end {
				s.Detach()
				delete(table, id)
			}
		}
	}
	for slot := range frame.Slots {
		first, behind := frame.SlotRange(slot)
		if first < start || behind > end {
			continue
		}
		a.files.Disconnect(slot)
		if o := a.replies[slot]; o != nil {
			o.Discard()
			delete(a.replies, slot)
		}
	}
}

// nobody is the slot of ids without a client.
const nobody = -1

// answers returns the queue of the agent's own answers to the owner of an id.
func (a *Agent) answers(id uint32) *mux.Outbox {
	slot := slotOf(id)
	o := a.replies[slot]
	if o == nil {
		o = a.writer.Keeping(maxReplies, a.unheard)
		a.replies[slot] = o
	}
	return o
}

// slotOf is the slot of the client that owns an id.
func slotOf(id uint32) int {
	slot, owned := frame.SlotOf(id)
	if !owned {
		return nobody
	}
	return slot
}

func setClock(m *wire.ClockSync) {
	now := time.Unix(0, int64(m.UnixTimeNanos))
	if time.Since(now).Abs() <= clockTolerance {
		return
	}
	if err := sys.SetTime(now); err != nil {
		sys.Logf("%v", err)
	}
}

// maxComplaints bounds the console's lines about frames. The first lines show the host's
// fault, and the loop waits for the console.
const maxComplaints = 100

// complain prints the fault of a frame that gets no answer on the console.
func (a *Agent) complain(format string, args ...any) {
	if a.complaints++; a.complaints > maxComplaints {
		return
	}
	sys.Logf(format, args...)
	if a.complaints == maxComplaints {
		sys.Logf("there were %d such lines; no more of them are shown", maxComplaints)
	}
}

// malformed answers a body that is no envelope, unless its sender is known not to
// understand core.error.
func (a *Agent) malformed(id uint32, err error) {
	var bad *wire.EnvelopeError
	if errors.As(err, &bad) && bad.GenerationKnown && bad.Generation < errorSince {
		a.complain("frame on id %d: %v", id, err)
		return
	}
	m := &wire.ProtocolError{Kind: wire.ErrorMalformed, Message: err.Error()}
	if bad != nil {
		m.OffendingType = bad.Type
	}
	a.reply(id, m)
}

// refuse answers a frame that cannot be handled with core.error, if its sender knows that
// message.
func (a *Agent) refuse(id uint32, e wire.Envelope, kind wire.ErrorKind, why string) {
	if e.Generation < errorSince {
		a.complain("frame on id %d: %s", id, why)
		return
	}
	a.reply(id, &wire.ProtocolError{Kind: kind, Message: why, OffendingType: e.Type})
}

// reply sends one of the agent's own answers without waiting.
func (a *Agent) reply(id uint32, m wire.Message) {
	b, err := wire.AppendFrame(nil, a.host.Generation, id, m)
	if err != nil {
		sys.Logf("answer %s on id %d: %v", m.Type(), id, err)
		return
	}
	a.host.Activity.Sent(m.Type())
	if a.answers(id).TrySend(b) || a.muffled {
		return
	}
	a.muffled = true // Only the loop calls reply.
	sys.Logf("the host has left %d bytes of answers unread; more are dropped", a.answers(id).Queued())
}
