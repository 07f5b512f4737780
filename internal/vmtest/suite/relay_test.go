package suite

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A hub is a machine that serves clients at a socket.
type hub struct {
	*guest
	socket string
	said   *lines
}

// lines are what the relay has logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
}

// take returns the lines since the last call.
func (l *lines) take() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, l.all = l.all, nil
	return all
}

func share(t *testing.T, cfg sandbox.Config) *hub {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // The path of a test's own is too long for a socket.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &hub{socket: filepath.Join(dir, "relay"), said: new(lines)}
	cfg.Socket, cfg.Log = h.socket, h.said.add
	h.guest = in(t, vmtest.Start(t, cfg))
	return h
}

// dial returns a client beside the machine's own, and what ends it.
func (h *hub) dial() (*guest, func(), error) {
	c, err := client.Connect(h.ctx, h.socket)
	if err != nil {
		return nil, nil, err
	}
	return &guest{Machine: h.Machine, ctx: h.ctx, as: c}, func() { _ = c.Close() }, nil
}

// TestRelay asks several clients of one machine for what they must not notice of
// each other, and what the machine must notice of them.
//
//holds:wire 5: a client that left: silence (no `exited` either), handles and streams gone, commands go on, others unaffected
//holds:wire 13: a relay: the lease before the client's first frame, the range free at the acknowledgement and not before; a guest that never gives one
func TestRelay(t *testing.T) {
	for _, c := range vmtest.Combinations(t) {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			h := share(t, c.Config(sandbox.Config{}))
			for _, b := range []struct {
				name  string
				check func(*hub) error
			}{
				{"commands of twenty clients", (*hub).twenty},
				{"input and output at once", (*hub).bothWays},
				{"bodies as another client writes them", (*hub).otherBodies},
				{"departure", (*hub).departure},
				{"death inside a frame", (*hub).tornFrame},
				{"answers to a client that lags", (*hub).laggard},
				{"another's id", (*hub).foreignID},
				{"the time is the relay's business", (*hub).time},
				{"as many clients as there are ids", (*hub).crowd},
			} {
				t.Run(b.name, func(t *testing.T) {
					if err := b.check(h); err != nil {
						t.Error(err)
					}
				})
			}
			t.Run("client of the published package", h.foreignClient)
		})
	}
}

// together runs n functions at once.
func together(n int, f func(n int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// twenty has commands say who asked for them.
func (h *hub) twenty() error {
	const clients, each = 20, 3
	return together(clients, func(n int) error {
		g, done, err := h.dial()
		if err != nil {
			return err
		}
		defer done()
		for i := range each {
			want := fmt.Sprintf("%d of %d\n", i, n)
			if out, err := g.say("echo " + strings.TrimSpace(want)); err != nil || out != want {
				return fmt.Errorf("client %d: got %q, %w", n, out, err)
			}
		}
		return nil
	})
}

// bothWays has commands say back what they hear.
func (h *hub) bothWays() error {
	const size = 2 << 20
	return together(4, func(n int) error {
		g, done, err := h.dial()
		if err != nil {
			return err
		}
		defer done()
		input := random(size, uint64(n))
		c := g.cmd("cat")
		c.Stdin = bytes.NewReader(input)
		out, err := c.Output()
		if err == nil && !bytes.Equal(out, input) {
			err = fmt.Errorf("client %d: %d bytes came back, of %d", n, len(out), size)
		}
		return err
	})
}

// A bare client writes its frames itself.
type bare struct {
	net.Conn
	frames     *frame.Reader
	start, end uint32
}

func (h *hub) bare() (*bare, error) {
	conn, err := new(net.Dialer).DialContext(h.ctx, "unix", h.socket)
	if err != nil {
		return nil, err
	}
	deadline, _ := h.ctx.Deadline()
	var ids [8]byte
	if err = conn.SetDeadline(deadline); err == nil {
		_, err = io.ReadFull(conn, ids[:])
	}
	b := &bare{
		Conn: conn, frames: frame.NewReader(conn),
		start: binary.BigEndian.Uint32(ids[:]), end: binary.BigEndian.Uint32(ids[4:]),
	}
	if err == nil {
		_, err = b.until(wire.TypeReady)
	}
	if err != nil {
		_ = conn.Close() // It is of no use.
		return nil, err
	}
	return b, nil
}

// until reads frames up to one of a type.
func (b *bare) until(t wire.Type) (wire.Envelope, error) {
	for {
		f, err := b.frames.Next()
		if err != nil {
			return wire.Envelope{}, fmt.Errorf("waiting for %s: %w", t, err)
		}
		if e, err := wire.DecodeEnvelope(f.Body); err != nil || e.Type == t {
			return e, err
		}
	}
}

func (b *bare) tell(id uint32, m wire.Message) error {
	whole, err := wire.AppendFrame(nil, wire.Newest, id, m)
	if err == nil {
		_, err = b.Write(whole)
	}
	return err
}

// hex sends a frame with a recorded body.
func (b *bare) hex(id uint32, flags frame.Flags, body string) error {
	raw, err := hex.DecodeString(body)
	if err != nil {
		return err
	}
	whole, err := frame.Append(nil, frame.Frame{ID: id, Flags: flags, Body: raw})
	if err == nil {
		_, err = b.Write(whole)
	}
	return err
}

// otherBodies runs cat in the words of the client in TypeScript: heads of two
// bytes for maps, tag 64 before bytes.
func (h *hub) otherBodies() error {
	b, err := h.bare()
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // Its command has ended.
	err = errors.Join(
		b.hex(b.start, frame.SessionStart, "b90003617605617471636f72652e657865632e726571756573746170d84050b9000163636d64682f62696e2f636174"),
		b.hex(b.start, 0, "b9000361760561746f636f72652e657865632e737464696e6170d8404db900016464617461d840426162"),
		b.hex(b.start, 0, "b9000361760561746f636f72652e657865632e737464696e6170d8404bb900016464617461d84040"),
	)
	if err != nil {
		return err
	}
	e, err := b.until(wire.TypeExecStdout)
	if err != nil {
		return err
	}
	if data, err := wire.DataOf(e); string(data) != "ab" || err != nil {
		return fmt.Errorf("got %q, %w", data, err)
	}
	_, err = b.until(wire.TypeExecExited)
	return err
}

// departure is a client that is gone from one moment to the next: its command is
// killed, and its ids go to another when that has ended.
func (h *hub) departure() error {
	const (
		nap  = "987654321"
		find = "grep -l '98765432[1]' /proc/[0-9]*/cmdline 2>/dev/null || true"
	)
	b, err := h.bare()
	if err != nil {
		return err
	}
	err = b.tell(b.start, &wire.ExecRequest{Cmd: "sleep", Args: []string{nap}})
	if err == nil {
		_, err = b.until(wire.TypeExecStarted)
	}
	if out, _ := h.say(find); out == "" {
		err = errors.Join(err, errors.New("the command does not run"))
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	for {
		out, err := h.say(find)
		if err != nil {
			return fmt.Errorf("the command outlives its client: %w", err)
		}
		if out == "" {
			break
		}
	}
	return h.awaitSlot(b.start)
}

// awaitSlot waits until a client gets the range that begins with start, while
// others have those below it.
func (h *hub) awaitSlot(start uint32) error {
	tick := time.NewTicker(departureTick)
	defer tick.Stop()
	for {
		b, err := h.bare()
		if err != nil {
			return fmt.Errorf("ids from %d on are not free: %w", start, err)
		}
		defer func() { _ = b.Close() }() // A second time for some.
		if b.start == start {
			return nil
		}
		if b.start > start {
			_ = b.Close() // It is not needed.
			<-tick.C
		}
	}
}

// departureTick is how often a slot is tried; there is no event to wait for.
const departureTick = 100 * time.Millisecond

// foreignClient has the published native client run a command and ask for a
// file's status.
func (h *hub) foreignClient(t *testing.T) {
	argv := append(vmtest.ForeignClient(t, "testdata/client.cjs"), h.socket)
	cmd := exec.CommandContext(h.ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v; %s", err, stderr.Bytes())
	}
	want := []string{"core.exec.started", "said by the reference client", "core.exec.exited", "core.fs.response"}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, line := range got {
		if len(got) != len(want) || !strings.Contains(line, want[i]) {
			t.Fatalf("it got %q, want %q", got, want)
		}
	}
}

// tornFrame is a client that dies inside a frame: nothing of it reaches the
// guest, which would take what others say for the rest.
func (h *hub) tornFrame() error {
	b, err := h.bare()
	if err != nil {
		return err
	}
	_, err = b.Write([]byte{0, 0, 1, 0, 0, 0, 0, 1, 0, 'h', 'a', 'l', 'f'})
	if err = errors.Join(err, b.Close()); err == nil {
		_, err = h.say("true")
	}
	return err
}

// foreignID speaks for another: only the one who does loses its connection.
func (h *hub) foreignID() error {
	h.said.take()
	b, err := h.bare()
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // It is closed.
	first, _ := frame.SlotRange(0)
	if err := b.tell(first, &wire.ExecSignal{Signal: 9}); err != nil {
		return err
	}
	if _, err := b.frames.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("got %w, want the end", err)
	}
	if _, err = h.say("true"); err != nil {
		return err
	}
	if said := h.said.take(); len(said) != 1 {
		err = fmt.Errorf("logged %q, want one line", said)
	}
	return err
}

// time is told by the relay, to a guest whose clock is wrong, and by no client.
func (h *hub) time() error {
	if err := h.Client().SyncClock(h.ctx, time.Now()); !errors.Is(err, client.ErrRelayed) {
		return fmt.Errorf("a client tells the time: %w", err)
	}
	if !long() {
		return nil // The relay tells it each minute.
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), patience)
	defer cancel()
	g := &guest{Machine: h.Machine, ctx: ctx}
	if _, err := g.say("date -s @1000000000"); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		out, err := g.say("date +%s")
		if err != nil {
			return fmt.Errorf("the guest's clock stays wrong: %w", err)
		}
		if now, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64); err != nil || time.Since(time.Unix(now, 0)).Abs() < time.Minute {
			return err
		}
		<-tick.C
	}
}

// Any client can end the machine. One that does not end by itself, as the published
// agents' do not under this monitor, is ended for it.
func TestRelayShutdown(t *testing.T) {
	c := vmtest.Combinations(t)[0]
	h := share(t, c.Config(sandbox.Config{}))
	other, done, err := h.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	g, done, err := h.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := g.Client().Shutdown(h.ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("ended after %v", h.AwaitEnd().Round(time.Millisecond))
	select {
	case <-other.Client().Done():
	case <-h.ctx.Done():
		t.Error("another client is not told")
	}
}

// crowd fills every slot. The client too many sees the end without a byte.
func (h *hub) crowd() error {
	var all []*bare
	defer func() {
		for _, b := range all {
			_ = b.Close() // They are many, and leave.
		}
	}()
	for range frame.Slots - 1 { // The machine's own client has one.
		b, err := h.bare()
		if err != nil {
			return fmt.Errorf("client %d: %w", len(all)+1, err)
		}
		all = append(all, b)
	}
	conn, err := new(net.Dialer).DialContext(h.ctx, "unix", h.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // Nothing was written.
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
		return fmt.Errorf("the client too many got %x, %w", got, err)
	}
	return together(len(all), func(n int) error {
		b := all[n]
		if err := b.tell(b.end-2, &wire.ExecRequest{Cmd: "true"}); err != nil {
			return err
		}
		_, err := b.until(wire.TypeExecExited)
		return err
	})
}
