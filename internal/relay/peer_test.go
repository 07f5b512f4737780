package relay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A world is a relay, with the test as the guest and as all clients.
type world struct {
	*relay.Relay
	t     *testing.T
	guest *peer
	// records is the guest's end of the second port, nil without one.
	records *peer

	mu   sync.Mutex
	logs []string
	ends int // How often a shutdown was announced.
}

// play runs a script in a bubble. Whatever the relay leaves running fails the test.
func play(t *testing.T, script func(w *world)) {
	t.Helper()
	playWith(t, func(*world, *relay.Config) {}, script)
}

// playWith is play for a relay that is set up otherwise.
func playWith(t *testing.T, set func(*world, *relay.Config), script func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := &world{t: t, guest: newPeer(t, far)}
		cfg := relay.Config{
			Link:     near,
			Ready:    ready(t),
			Words:    words(t),
			Dir:      t.TempDir(),
			Shutdown: func() { w.ends++ },
			Log: func(line string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.logs = append(w.logs, line)
			},
		}
		set(w, &cfg)
		w.Relay = relay.New(cfg)
		script(w)
		_ = w.Close() // The link's end is the script's business.
		_ = far.Close()
		if w.records != nil {
			_ = w.records.conn.Close()
		}
	})
}

// logged returns the lines since the last call.
func (w *world) logged() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.logs
	w.logs = nil
	return lines
}

// connect returns a client that has read its handshake.
func (w *world) connect() *peer {
	w.t.Helper()
	conn, err := w.Connect()
	if err != nil {
		w.t.Fatal(err)
	}
	c := newPeer(w.t, conn)
	c.greeted()
	return c
}

// hear has a client say something.
func (w *world) hear(c *peer) {
	w.t.Helper()
	b := raw(c.start+9, 0, "hello")
	go c.send(b)
	w.guest.expect(b)
}

func ready(tb testing.TB) []byte {
	tb.Helper()
	return message(tb, 0, &wire.Ready{AgentVersion: "test"})
}

func words(tb testing.TB) relay.Words {
	tb.Helper()
	return relay.Words{
		Kill: func(id uint32) []byte { return message(tb, id, &wire.ExecSignal{Signal: 9}) },
		Hold: func(id uint32) []byte { return message(tb, id, &wire.ExecSignal{Output: wire.OutputHold}) },
		Go:   func(id uint32) []byte { return message(tb, id, &wire.ExecSignal{Output: wire.OutputGo}) },
		Left: func(start, end uint32, which *relay.Incarnation) []byte {
			return message(tb, 0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end, Incarnation: (*[16]byte)(which)})
		},
		Probe: func(id uint32) []byte { return message(tb, id, &wire.Ping{}) },
		IsCommand: func(f frame.Frame) bool {
			e, err := wire.DecodeEnvelope(f.Body)
			return err == nil && e.Type == wire.TypeExecRequest
		},
	}
}

// left is the message by which a guest without leases learns of a client's end.
func left(tb testing.TB, start, end uint32) []byte {
	tb.Helper()
	return words(tb).Left(start, end, nil)
}

// message is a frame of generation 7.
func message(tb testing.TB, id uint32, m wire.Message) []byte {
	tb.Helper()
	b, err := wire.AppendFrame(nil, 7, id, m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// raw is a frame with any body.
func raw(id uint32, flags frame.Flags, body string) []byte {
	b := make([]byte, frame.HeaderSize, frame.HeaderSize+len(body))
	frame.PutHeader(b, id, flags, len(body))
	return append(b, body...)
}

// A peer is the test's end of a connection.
type peer struct {
	t          *testing.T
	conn       net.Conn
	frames     *frame.Reader
	start, end uint32
}

func newPeer(t *testing.T, conn net.Conn) *peer {
	t.Helper()
	return &peer{t: t, conn: conn, frames: frame.NewReader(conn)}
}

// greeted reads the handshake.
func (p *peer) greeted() {
	p.t.Helper()
	var ids [8]byte
	if _, err := io.ReadFull(p.conn, ids[:]); err != nil {
		p.t.Fatalf("handshake: %v", err)
	}
	p.start, p.end = binary.BigEndian.Uint32(ids[:]), binary.BigEndian.Uint32(ids[4:])
	p.expect(ready(p.t))
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Error(err) // Not Fatal: it may be another goroutine's.
	}
}

// expect reads frames that must be these.
func (p *peer) expect(want ...[]byte) {
	p.t.Helper()
	for _, w := range want {
		_, got, err := p.frames.NextWhole()
		if err != nil || !bytes.Equal(got, w) {
			p.t.Fatalf("got %.99q, %v; want %.99q", got, err, w)
		}
	}
}

// expectAll reads frames that must be these, in any order.
func (p *peer) expectAll(want ...[]byte) {
	p.t.Helper()
	left := map[string]bool{}
	for _, w := range want {
		left[string(w)] = true
	}
	for range want {
		_, got, err := p.frames.NextWhole()
		if err != nil || !left[string(got)] {
			p.t.Fatalf("got %.99q, %v; want one of %.99q", got, err, want)
		}
		delete(left, string(got))
	}
}

// gone reads to the end of the connection, where nothing must be left.
func (p *peer) gone() {
	p.t.Helper()
	if _, got, err := p.frames.NextWhole(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatalf("got %.99q, %v; want the end", got, err)
	}
}

// silent is an error if there is anything to read once everything rests.
func (p *peer) silent() {
	p.t.Helper()
	if got, ok := p.poll(); ok {
		p.t.Fatalf("got %.99q, want nothing", got)
	}
}

// poll returns a frame if there is one once everything rests. The deadline is in the
// future, for one that has passed ends a read that has something to read.
func (p *peer) poll() (got []byte, ok bool) {
	p.t.Helper()
	synctest.Wait()
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Nanosecond)); err != nil {
		p.t.Fatal(err)
	}
	_, got, err := p.frames.NextWhole()
	if err := p.conn.SetReadDeadline(never); err != nil {
		p.t.Fatal(err)
	}
	return got, err == nil
}

func (p *peer) leave() {
	if err := p.conn.Close(); err != nil {
		p.t.Error(err)
	}
}
