package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// ErrRestored ends the calls that were under way when [Client.Thaw] restored the guest.
var ErrRestored = errors.New("ended by a restore of the guest")

// A ThawMode says what becomes of the commands, files and connections of before.
type ThawMode string

// The modes of [Client.Thaw], with the protocol's names.
const (
	// ThawContinue lets everything go on: not a byte is lost.
	ThawContinue = ThawMode(wire.ThawContinue)
	// ThawRestore is for a guest whose copy goes on, with a host that does not know of
	// its sessions. Commands run on: they get the input that has come and then its end,
	// and nobody hears them. Files and connections close. Calls that are under way end
	// with [ErrRestored].
	ThawRestore = ThawMode(wire.ThawRestore)
)

// A Frozen is the state of a guest that stands still.
type Frozen struct {
	// Synced says that all named mounts are written back. false means that one is not
	// mounted or does not answer. The guest's own disks are always synced.
	Synced bool
}

// A freezer is what a client knows of the freezing of its guest.
type freezer struct {
	busy    chan struct{} // Holds a value while a freeze or thaw is under way.
	answers chan wire.Message
	attempt string // The attempt that has frozen the guest, "" if none has. Guarded by busy.
}

func newFreezer() freezer {
	// An answer and the one that it may cross; more than that are nobody's.
	return freezer{busy: make(chan struct{}, 1), answers: make(chan wire.Message, 2)}
}

// Freeze stops all commands of the guest, syncs its disks and the named mounts, and holds
// back all bytes in both directions until [Client.Thaw], so that the guest can be copied.
// attempt names this freeze: 1 to 128 printable ASCII bytes without spaces. A mount is a
// virtiofs tag, or "path:" and an absolute path.
//
// The agent may take 5 seconds to stop the commands and 20 to sync. If it refuses, or ctx
// ends first, everything goes on: the error is a [*ProtocolError], of [KindUnavailable] for
// a guest without the means. A freeze by the name that is in force is answered again.
//
// Only the guest's only host can do this: through a relay it returns [ErrRelayed]. Its
// generation is at least 9. Close of a client whose guest is frozen ends the link as ever.
func (c *Client) Freeze(ctx context.Context, attempt string, mounts ...string) (*Frozen, error) {
	if err := c.beginFreezing(ctx, new(wire.WorkloadFreeze)); err != nil {
		return nil, fmt.Errorf("freeze: %w", err)
	}
	c.writer.Park()
	control, data := c.credit.Sent()
	sent := wire.TransportCounters{
		ControlBytes: control.Bytes, ControlFrames: control.Frames, BulkBytes: data.Bytes, BulkFrames: data.Frames,
	}
	err := c.express(&wire.WorkloadFreeze{AttemptID: attempt, HostInput: sent, ExternalMountTags: mounts})
	if err != nil {
		c.endFreezing()
		return nil, fmt.Errorf("freeze: %w", err)
	}
	m, err := await[*wire.WorkloadFrozen](ctx, c, attempt, wire.TypeWorkloadFreeze)
	if err != nil {
		c.undo(attempt)
		return nil, fmt.Errorf("freeze: %w", err)
	}
	c.credit.Grant(totals(m.InputCredit))
	c.freezer.attempt = attempt
	c.endFreezing()
	return &Frozen{Synced: m.ExternalMountsSynced}, nil
}

// Thaw lets a guest go on that the named attempt has frozen, or is freezing. It may be
// repeated. If ctx ends first, the guest may go on or not: repeat it.
func (c *Client) Thaw(ctx context.Context, attempt string, mode ThawMode) error {
	m := &wire.WorkloadThaw{AttemptID: attempt, Mode: wire.ThawMode(mode)}
	if err := c.beginFreezing(ctx, m); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	defer c.endFreezing()
	err := c.express(m)
	if err == nil {
		_, err = await[*wire.WorkloadThawed](ctx, c, attempt, m.Type())
	}
	if err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	c.freezer.attempt = ""
	if mode == ThawRestore {
		c.detach()
	}
	return nil
}

// wake thaws a frozen guest, for the end of the machine.
func (c *Client) wake(ctx context.Context) error {
	if c.credit == nil {
		return nil
	}
	if err := c.beginFreezing(ctx, new(wire.WorkloadThaw)); err != nil {
		return err
	}
	attempt := c.freezer.attempt
	c.endFreezing()
	if attempt == "" {
		return nil
	}
	return c.Thaw(ctx, attempt, ThawContinue)
}

// undo ends an attempt that has failed, unless another one holds the guest. It does not wait
// for that: the agent may be stopping commands.
func (c *Client) undo(attempt string) {
	if c.freezer.attempt != "" {
		c.endFreezing()
		return
	}
	c.loops.Go(func() {
		defer c.endFreezing()
		if c.express(&wire.WorkloadThaw{AttemptID: attempt, Mode: wire.ThawContinue}) == nil {
			// Whether it is thawed, or was not frozen: an answer says that it goes on.
			_, _ = await[*wire.WorkloadThawed](context.Background(), c, attempt, wire.TypeWorkloadThaw)
		}
	})
}

// beginFreezing waits for the freeze or thaw that is under way, and forgets late answers to it.
func (c *Client) beginFreezing(ctx context.Context, m wire.Message) error {
	if c.relayed {
		return ErrRelayed
	}
	if c.generation < wire.BarrierSince {
		return c.tooOld(m)
	}
	if c.credit == nil {
		return &ProtocolError{Kind: KindUnavailable, Message: "the agent does not say that it can freeze commands"}
	}
	select {
	case c.freezer.busy <- struct{}{}:
	case <-ctx.Done():
		return causeOf(ctx)
	case <-c.done:
		return c.Err()
	}
	for {
		select {
		case <-c.freezer.answers:
		default:
			return nil
		}
	}
}

// endFreezing lets the next freeze or thaw begin. If the guest goes on, waiting messages are sent
// too.
func (c *Client) endFreezing() {
	if c.freezer.attempt == "" {
		c.writer.Unpark()
	}
	<-c.freezer.busy
}

// express sends a message that is not counted and passes all others.
func (c *Client) express(m wire.Message) error {
	b, err := wire.AppendFrame(nil, own, wire.WorkloadID, m)
	if err == nil && c.writer.Express().Put(b) != nil {
		err = c.reason()
	}
	return err
}

// await receives the answer to a freeze or thaw.
func await[T wire.Message](ctx context.Context, c *Client, attempt string, of wire.Type) (answer T, err error) {
	for {
		var m wire.Message
		select {
		case m = <-c.freezer.answers:
		case <-ctx.Done():
			return answer, causeOf(ctx)
		case <-c.done:
			return answer, c.Err()
		}
		if e, ok := m.(*wire.ProtocolError); ok && e.OffendingType == of {
			return answer, newProtocolError(e)
		}
		if answer, ok := m.(T); ok && attemptOf(m) == attempt {
			return answer, nil
		}
	}
}

func attemptOf(m wire.Message) string {
	switch m := m.(type) {
	case *wire.WorkloadFrozen:
		return m.AttemptID
	case *wire.WorkloadThawed:
		return m.AttemptID
	}
	return ""
}

// heard keeps an answer about freezing for the call that waits for it.
func (c *Client) heard(m wire.Message) {
	select {
	case c.freezer.answers <- m:
	default: // Of a call that has been given up.
	}
}

// detach ends every call that is under way.
func (c *Client) detach() {
	for _, r := range c.calls.empty() {
		r.fail(ErrRestored)
	}
}

func totals(c wire.TransportCounters) (control, data mux.Totals) {
	return mux.Totals{Bytes: c.ControlBytes, Frames: c.ControlFrames}, mux.Totals{Bytes: c.BulkBytes, Frames: c.BulkFrames}
}
