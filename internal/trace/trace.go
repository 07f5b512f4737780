// Package trace shows the frames between one client and a relay in readable form. It
// forwards every byte unchanged between the two.
package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// shown bounds the shown text of a message.
const shown = 160

// A Tracer writes a line for each frame.
type Tracer struct {
	start time.Time

	mu  sync.Mutex
	out io.Writer
}

// New returns a tracer that counts time from now on.
func New(out io.Writer) *Tracer { return &Tracer{start: time.Now(), out: out} }

// Serve forwards between a client and a relay until one of them ends, and closes both.
// The relay first sends the client's range of ids in eight bytes.
func (t *Tracer) Serve(client, relay net.Conn) error {
	var both sync.WaitGroup
	var up, down error
	both.Go(func() {
		up = t.pass(relay, client, "->", 0)
		_ = relay.Close() // Ends the other direction.
	})
	both.Go(func() {
		const ids = 8
		down = t.pass(client, relay, "<-", ids)
		_ = client.Close()
	})
	both.Wait()
	for _, err := range []error{up, down} {
		if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
			return err
		}
	}
	return nil
}

// pass copies frames in one direction; the first before bytes are no frames.
func (t *Tracer) pass(to io.Writer, from io.Reader, arrow string, before int64) error {
	if _, err := io.CopyN(to, from, before); err != nil {
		return err
	}
	for frames := frame.NewReader(from); ; {
		f, whole, err := frames.NextWhole()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t.say(arrow, f)
		if _, err := to.Write(whole); err != nil {
			return err
		}
	}
}

func (t *Tracer) say(arrow string, f frame.Frame) {
	line := fmt.Sprintf("%9.3fms %s id %-8d %-3s %s\n",
		float64(time.Since(t.start))/float64(time.Millisecond), arrow, f.ID, flags(f.Flags), strings.Map(Printable, describe(f)))
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.out, line) // A failed write of the trace must not stop the forwarding.
}

// Printable replaces characters by which a guest could control the terminal.
func Printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// flags returns a letter for each flag: start of a session, its end, shutdown, raw
// record.
func flags(f frame.Flags) string {
	var s strings.Builder
	for _, l := range []struct {
		flag   frame.Flags
		letter string
	}{{frame.SessionStart, "S"}, {frame.Terminal, "T"}, {frame.Shutdown, "D"}, {frame.Bulk, "B"}} {
		if f&l.flag != 0 {
			s.WriteString(l.letter)
		}
	}
	return s.String()
}

// describe is Describe, and also handles the two frames without an envelope.
func describe(f frame.Frame) string {
	switch {
	case f.Flags&frame.Bulk != 0:
		r, err := wire.DecodeRecord(f.Body)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("record of kind %d, flow %d at %d, %d bytes", r.Kind, r.Flow, r.Offset, len(r.Data))
	case wire.IsLease(f):
		l, err := wire.DecodeLease(f.Body)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("lease event %d of %d-%d, %x", l.Event, l.IDStart, l.IDEndExclusive-1, l.Incarnation)
	}
	return Describe(f.Body)
}

// Describe describes a frame's body: data by its size, other messages by their fields,
// and an undecodable body by the error.
func Describe(body []byte) string {
	e, err := wire.DecodeEnvelope(body)
	if err != nil {
		return err.Error()
	}
	head := fmt.Sprintf("v%d %s", e.Generation, e.Type)
	if data, err := wire.DataOf(e); err == nil {
		return fmt.Sprintf("%s, %d bytes", head, len(data))
	}
	m, err := wire.Decode(e)
	if err != nil {
		return head + ": " + err.Error()
	}
	text, err := json.Marshal(m)
	if err != nil {
		return head // The name suffices.
	}
	if len(text) > shown {
		text = append(text[:shown:shown], "..."...)
	}
	return head + " " + string(text)
}
