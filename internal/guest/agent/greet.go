package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// greetingDeadline bounds each wait for the host before core.ready. Reference
// hosts give a machine 60 s (generation 4) or 180 s until then.
const greetingDeadline = 60 * time.Second

// bootstrapSince is the first generation that has core.bootstrap.
const bootstrapSince wire.Generation = 7

// Bootstrap waits for the message that configures the machine. It must be the
// first on the port, with id 0, no flags and a generation that has it.
func (a *Agent) Bootstrap() (*wire.Bootstrap, error) {
	f, err := a.await("core.bootstrap")
	if err != nil {
		return nil, err
	}
	if f.ID != 0 || f.Flags != 0 {
		return nil, fmt.Errorf("first frame: id %d, flags %v: want core.bootstrap with id 0 and no flags", f.ID, f.Flags)
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return nil, fmt.Errorf("first frame: %w", err)
	}
	if e.Type != wire.TypeBootstrap {
		return nil, fmt.Errorf("first frame is %s, want core.bootstrap", e.Type)
	}
	if e.Generation < bootstrapSince {
		return nil, fmt.Errorf("guest bootstrap requires protocol generation %d or newer, got %d", bootstrapSince, e.Generation)
	}
	a.speaks = min(e.Generation, wire.Newest) // Set before the payload is checked: its sender knows core.error.
	m, err := wire.Decode(e)
	if err != nil {
		return nil, err
	}
	b, ok := m.(*wire.Bootstrap)
	if !ok {
		return nil, fmt.Errorf("core.bootstrap decodes to %T", m)
	}
	return b, nil
}

// Speaks is the generation for a host that has sent core.bootstrap: the host's own, or the
// agent's newest if that is lower.
func (a *Agent) Speaks() wire.Generation { return a.speaks }

// Greet tells the host which user commands run as, and waits for its answer that the file
// systems it serves fit that user. g is the generation that the agent announces.
func (a *Agent) Greet(g wire.Generation, uid, gid uint32) error {
	b, err := wire.AppendFrame(nil, g, 0, &wire.InitResolved{DefaultUser: wire.User{UID: uid, GID: gid}})
	if err != nil {
		return err
	}
	if err := a.port.SetDeadline(time.Now().Add(greetingDeadline)); err != nil {
		return err
	}
	if _, err := a.port.Write(b); err != nil {
		return fmt.Errorf("send core.init.resolved: %w", err)
	}
	f, err := a.await("core.init.ack")
	if err != nil {
		return err
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return fmt.Errorf("waiting for core.init.ack: %w", err)
	}
	if e.Type != wire.TypeInitAck {
		return fmt.Errorf("waiting for core.init.ack: got %s", e.Type)
	}
	_, err = wire.Decode(e)
	return err
}

const (
	// lastWordDeadline bounds the sending of a boot's failure: a host that reads takes it
	// at once, and the console has it too.
	lastWordDeadline = time.Second
	// maxLastWords bounds its text: a refused mount names paths of at most 4 KiB and eight
	// lines of the kernel.
	maxLastWords = 16 << 10
)

// Fail tells the host why the boot has failed, in the place of core.ready. It tells only a
// host that has sent core.bootstrap: a host that configures by variables may be of
// generation 4, which does not know core.error and would report that instead.
func (a *Agent) Fail(failure wire.InitFailure, reason string) error {
	if a.speaks == 0 {
		return nil
	}
	if len(reason) > maxLastWords {
		reason = reason[:maxLastWords]
	}
	b, err := wire.AppendFrame(nil, a.speaks, 0, &wire.ProtocolError{
		Kind: wire.ErrorInitialization, Message: strings.ToValidUTF8(reason, "\uFFFD"), InitFailure: failure,
	})
	if err == nil {
		err = a.port.SetDeadline(time.Now().Add(lastWordDeadline))
	}
	if err == nil {
		_, err = a.port.Write(b)
	}
	if err != nil {
		return fmt.Errorf("send core.error: %w", err)
	}
	return nil
}

// await reads one frame within the deadline.
func (a *Agent) await(what string) (frame.Frame, error) {
	if err := a.port.SetDeadline(time.Now().Add(greetingDeadline)); err != nil {
		return frame.Frame{}, err
	}
	f, err := a.frames.Next()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return f, fmt.Errorf("no %s within %v", what, greetingDeadline)
	case errors.Is(err, io.EOF):
		return f, fmt.Errorf("serial port closed while waiting for %s", what)
	case err != nil:
		return f, fmt.Errorf("waiting for %s: %w", what, err)
	}
	return f, a.port.SetDeadline(time.Time{})
}
