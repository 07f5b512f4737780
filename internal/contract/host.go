package contract

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// counts is the generation of hosts that count what they send.
const counts = wire.BarrierSince

// A Host is the only host of an agent of generation 9. It counts every frame that it
// sends (protocol section 15.1). Everything on its link goes through it.
type Host struct {
	*Link

	Ctx  context.Context //nolint:containedctx // Bounds everything that a rule does.
	Sent wire.TransportCounters

	last *wire.TransportCounters // The agent's last word on credit.
	next uint32                  // The next free id; ids are not used again.
}

// Host returns the host of a link on which nothing has been sent since core.ready.
func (l *Link) Host(ctx context.Context) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repeats = true
	return &Host{Link: l, Ctx: ctx, next: 1}
}

// WithContext returns the same host with another context. done gives the counts back.
func (h *Host) WithContext(ctx context.Context) (in *Host, done func()) {
	in = &Host{Link: h.Link, Ctx: ctx, Sent: h.Sent, last: h.last, next: h.next}
	return in, func() { h.Sent, h.last, h.next = in.Sent, in.last, in.next }
}

// ID returns an id that no session has had.
func (h *Host) ID() uint32 {
	h.next++
	return h.next - 1
}

// Put sends messages on an id in one write.
func (h *Host) Put(id uint32, all ...wire.Message) error {
	var b []byte
	for _, m := range all {
		f, err := wire.AppendFrame(nil, counts, id, m)
		if err != nil {
			return err
		}
		h.count(len(f), wire.CountsAsData(m.Type()))
		b = append(b, f...)
	}
	return h.Write(b, id)
}

// Raw sends the bytes of one frame, which is counted as it says.
func (h *Host) Raw(id uint32, b []byte, data bool) error {
	h.count(len(b), data)
	return h.Write(b, id)
}

// Record sends a raw record.
func (h *Host) Record(id uint32, r wire.Record) error {
	b, err := wire.AppendRecord(nil, id, r)
	if err != nil {
		return err
	}
	return h.Raw(id, b, true)
}

func (h *Host) count(n int, data bool) {
	if data {
		h.Sent.BulkBytes, h.Sent.BulkFrames = h.Sent.BulkBytes+uint64(n), h.Sent.BulkFrames+1
	} else {
		h.Sent.ControlBytes, h.Sent.ControlFrames = h.Sent.ControlBytes+uint64(n), h.Sent.ControlFrames+1
	}
}

// Bare sends a message on the id that nobody owns, uncounted as freeze and thaw are.
func (h *Host) Bare(m wire.Message) error {
	b, err := wire.AppendFrame(nil, counts, wire.WorkloadID, m)
	if err != nil {
		return err
	}
	return h.Write(b, wire.WorkloadID)
}

// Freeze asks to freeze with the host's true counts.
func (h *Host) Freeze(attempt string, tags ...string) error {
	return h.Bare(&wire.WorkloadFreeze{AttemptID: attempt, HostInput: h.Sent, ExternalMountTags: tags})
}

// Thaw asks to thaw.
func (h *Host) Thaw(attempt string, mode wire.ThawMode) error {
	return h.Bare(&wire.WorkloadThaw{AttemptID: attempt, Mode: mode})
}

// Take returns the next frame of an id.
func (h *Host) Take(id uint32) (Received, error) { return h.Link.Next(h.Ctx, id) }

// Word returns the next frame on the id that nobody owns that is no credit.
func (h *Host) Word() (Received, error) {
	for {
		r, err := h.Take(wire.WorkloadID)
		if err != nil {
			return r, err
		}
		c, credit := r.Message.(*wire.WorkloadTransportCredit)
		if !credit {
			return r, nil
		}
		h.last = &c.TransportCounters
	}
}

// Limit is what the agent grants when all that the host has sent has been consumed, but for
// what is parked.
func (h *Host) Limit(parked wire.TransportCounters) wire.TransportCounters {
	l := wire.FirstCredit()
	l.ControlBytes += h.Sent.ControlBytes - parked.ControlBytes
	l.ControlFrames += h.Sent.ControlFrames - parked.ControlFrames
	l.BulkBytes += h.Sent.BulkBytes - parked.BulkBytes
	l.BulkFrames += h.Sent.BulkFrames - parked.BulkFrames
	return l
}

// Settle waits until the agent has granted exactly Limit.
func (h *Host) Settle(parked wire.TransportCounters) error {
	want := h.Limit(parked)
	for h.last == nil || *h.last != want {
		r, err := h.Take(wire.WorkloadID)
		if err != nil {
			return fmt.Errorf("last credit %+v, want %+v: %w", h.last, want, err)
		}
		c, ok := r.Message.(*wire.WorkloadTransportCredit)
		if !ok {
			return fmt.Errorf("%s in place of credit", r.Type)
		}
		h.last = &c.TransportCounters
	}
	return nil
}

// quietTime is how long a host waits for what must not come. An agent that says it does so
// in a fraction of that, also on a busy host with emulation.
const quietTime = 300 * time.Millisecond

// quiet is an error if anything comes. Only time can show that.
func (h *Host) quiet(what string) error {
	before := h.arrived.Load()
	timer := time.NewTimer(quietTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.Ctx.Done():
		return h.Ctx.Err()
	}
	if n := h.arrived.Load() - before; n > 0 {
		return fmt.Errorf("%s: %d frames", what, n)
	}
	return nil
}

// wants is an error if the next frame of an id does not hold a message.
func (h *Host) wants(id uint32, want wire.Message) error {
	r, err := h.Take(id)
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", want.Type(), err)
	}
	if !reflect.DeepEqual(r.Message, want) {
		return fmt.Errorf("id %d: %s %+v, want %+v", id, r.Type, r.Message, want)
	}
	return nil
}

// starts begins a command by a script and waits until it runs.
func (h *Host) starts(script string) (id uint32, err error) {
	id = h.ID()
	if err := h.Put(id, Shell(script)); err != nil {
		return id, err
	}
	r, err := h.Take(id)
	if err == nil && r.Type != wire.TypeExecStarted {
		err = fmt.Errorf("%q: %s %+v", script, r.Type, r.Message)
	}
	return id, err
}

// ends kills a command's group and waits for its last frame.
func (h *Host) ends(id uint32) error {
	if err := h.Put(id, &wire.ExecSignal{Signal: 9}); err != nil {
		return err
	}
	for {
		r, err := h.Take(id)
		if err != nil || r.Flags&frame.Terminal != 0 {
			return err
		}
	}
}

// says runs a script and compares its output.
func (h *Host) says(script, want string) error {
	id := h.ID()
	if err := h.Put(id, Shell(script)); err != nil {
		return err
	}
	return h.outputs(id, want)
}

// outputs collects a command's output to its end.
func (h *Host) outputs(id uint32, want string) error {
	var out strings.Builder
	for {
		r, err := h.Take(id)
		if err != nil {
			return err
		}
		switch m := r.Message.(type) {
		case *wire.ExecStdout:
			out.Write(m.Data)
		case *wire.ExecStderr:
			return fmt.Errorf("stderr: %q", m.Data)
		case *wire.ExecFailed:
			return errors.New(m.Message)
		case *wire.ExecExited:
			return same("output", out.String(), want)
		}
	}
}

// refused is an error if the next answer on an id is not the given refusal. left is the
// disposition, "" for none; attempt is the failed attempt's name.
func (h *Host) refused(id uint32, of wire.Type, kind wire.ErrorKind, text, attempt, left string) error {
	var r Received
	var err error
	if id == wire.WorkloadID {
		r, err = h.Word()
	} else {
		r, err = h.Take(id)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	e, ok := r.Message.(*wire.ProtocolError)
	if !ok {
		return fmt.Errorf("%q: %s %+v", text, r.Type, r.Message)
	}
	got := wire.WorkloadFailure{}
	if e.WorkloadFailure != nil {
		got = *e.WorkloadFailure
	}
	want := wire.WorkloadFailure{AttemptID: attempt, Disposition: left}
	if left == "" {
		want.AttemptID = ""
	}
	exact := e.Message == text
	if start, ok := strings.CutSuffix(text, "…"); ok {
		exact = strings.HasPrefix(e.Message, start)
	}
	if e.Kind != kind || !exact || got != want || e.OffendingType != of {
		return fmt.Errorf("got %s %q of %s, %+v; want %s %q of %s, %+v", e.Kind, e.Message, e.OffendingType, got, kind, text, of, want)
	}
	return nil
}
