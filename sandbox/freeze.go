package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// freezeDeadline is how long the agent may take to freeze all commands and to sync
	// the disks: 25 s by its own clock, and as much again on a busy emulated machine.
	freezeDeadline = 60 * time.Second

	// thawDeadline is how long it may take to let them go on: a round trip.
	thawDeadline = 30 * time.Second
)

// freezes reports whether the agent can freeze commands.
func (h *handshake) freezes() bool {
	v := h.Ready.WorkloadTransportBarrierVersion
	return v != nil && *v == wire.BarrierVersion
}

// newAttempt returns a name for a freeze.
func newAttempt() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails.
	return hex.EncodeToString(b[:])
}

// freeze stops the machine's commands, and the bytes between them and their clients, until
// thaw. After an error they go on.
func (m *Machine) freeze(ctx context.Context, attempt string) (relay.Cut, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, freezeDeadline, fmt.Errorf("the agent has not frozen its commands within %v", freezeDeadline))
	defer cancel()
	m.saving.frozen.Store(true)
	cut, err := m.relay.Freeze(ctx, relay.Freeze{
		Attempt: attempt,
		Ask: func(sent relay.Limits) []byte {
			return encode(wire.WorkloadID, &wire.WorkloadFreeze{AttemptID: attempt, HostInput: counters(sent)})
		},
		Undo: encode(wire.WorkloadID, &wire.WorkloadThaw{AttemptID: attempt, Mode: wire.ThawContinue}),
	})
	if err != nil {
		m.saving.frozen.Store(false)
		return cut, fmt.Errorf("freeze the commands: %w", err)
	}
	return cut, nil
}

// errNotRenewed says that the agent knows no Renew.
var errNotRenewed = errors.New("the agent does not say that it has renewed the machine")

// thaw lets the commands go on that freeze has stopped, after the agent has carried out
// renew. After an error they do not go on.
func (m *Machine) thaw(ctx context.Context, attempt string, mode wire.ThawMode, renew *wire.Renew) error {
	ctx, cancel := context.WithTimeoutCause(ctx, thawDeadline, fmt.Errorf("the agent has not answered within %v", thawDeadline))
	defer cancel()
	a, err := m.relay.Thaw(ctx, attempt, encode(wire.WorkloadID, &wire.WorkloadThaw{AttemptID: attempt, Mode: mode, Renew: renew}))
	if err == nil && renew != nil && !a.Renewed {
		err = errNotRenewed
	}
	if err != nil {
		return fmt.Errorf("let the commands go on: %w", err)
	}
	m.saving.frozen.Store(false)
	return nil
}

func counters(l relay.Limits) wire.TransportCounters {
	return wire.TransportCounters{
		ControlBytes: l.ControlBytes, ControlFrames: l.ControlFrames, BulkBytes: l.DataBytes, BulkFrames: l.DataFrames,
	}
}

// freezeAnswer decodes an answer to a freeze or a thaw.
func freezeAnswer(f frame.Frame) (a relay.Answer, ok bool) {
	if f.ID != wire.WorkloadID {
		return a, false
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return a, false
	}
	m, err := wire.Decode(e)
	if err != nil {
		return a, false
	}
	switch m := m.(type) {
	case *wire.WorkloadFrozen:
		return relay.Answer{Attempt: m.AttemptID, Limit: limits(m.InputCredit), Records: m.GuestBulkBytesTarget}, true
	case *wire.WorkloadThawed:
		return relay.Answer{Attempt: m.AttemptID, Renewed: m.Renewed}, true
	case *wire.ProtocolError:
		if m.WorkloadFailure != nil {
			a.Attempt = m.WorkloadFailure.AttemptID
		}
		a.Err = fmt.Errorf("the agent refuses: %s", m.Message)
		return a, true
	}
	return a, false
}
