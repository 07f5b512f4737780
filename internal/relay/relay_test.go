package relay_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

var never time.Time

//holds:wire 5: relay: handshake, frames verbatim, no foreign id
func TestHandshake(t *testing.T) {
	play(t, func(w *world) {
		for _, want := range []string{"0000000101ffffff", "0200000003fffffe"} {
			conn, err := w.Connect()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 8+len(ready(t)))
			if _, err := io.ReadFull(conn, got); err != nil {
				t.Fatal(err)
			}
			if want += hex.EncodeToString(ready(t)); hex.EncodeToString(got) != want {
				t.Errorf("handshake %x, want %s", got, want)
			}
		}
	})
}

// bodies are recorded bodies of other clients, and invalid ones: the relay passes all
// of them.
func bodies(t *testing.T) (all []string) {
	t.Helper()
	for _, b := range []string{
		"b90003617605617471636f72652e657865632e72657175657374617051b9000163636d64692f62696e2f74727565",
		"b9000361760561746f636f72652e657865632e737464696e6170d8404db900016464617461d840426162",
		"a361760461746f636f72652e657865632e737464696e617049a16464617461426162",
		"bf6176046174716f6e6c7920696e646566696e697465ff",
	} {
		body, err := hex.DecodeString(b)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(body))
	}
	return append(all, "", "\x00", "no CBOR", strings.Repeat("\xff", frame.MaxBody))
}

//holds:wire 5: relay: handshake, frames verbatim, no foreign id
func TestFramesPassAsTheyAre(t *testing.T) {
	play(t, func(w *world) {
		clients := []*peer{w.connect(), w.connect(), w.connect()}
		for _, body := range bodies(t) {
			for _, c := range clients {
				for _, id := range []uint32{c.start, c.start + 77, c.end - 1} {
					for _, flags := range []frame.Flags{0, 1, 3, 8, 0xF0} {
						b := raw(id, flags, body)
						go c.send(b)
						w.guest.expect(b)
						go w.guest.send(b)
						c.expect(b)
					}
				}
			}
		}
	})
}

// A client that sends a forbidden frame is disconnected; the other clients are not.
//
//holds:wire 5: relay: handshake, frames verbatim, no foreign id
func TestRefusals(t *testing.T) {
	for name, b := range map[string][]byte{
		"the machine's id":            raw(0, 0, "x"),
		"more than the shutdown flag": raw(0, frame.Shutdown|frame.Terminal, "x"),
		"another's id":                raw(1, 0, "x"),
		"the next one's id":           raw(2*frame.Step+frame.Step+1, 0, "x"),
		"the cut below":               raw(frame.Step, 0, "x"),
		"the cut above":               raw(2*frame.Step, 0, "x"),
		"the last id of all":          raw(math.MaxUint32, 0, "x"),
		"too short":                   {0, 0, 0, 4, 1, 2, 3, 4},
		"too long":                    {0, 0x40, 0, 1, 1, 2, 3, 4},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				other, c := w.connect(), w.connect()
				before, after := raw(c.start, 0, "before"), raw(c.start, 0, "after")
				go func() {
					c.send(before)
					c.send(b)
					_, _ = c.conn.Write(after) // The client has left.
				}()
				w.guest.expect(before)
				w.guest.expect(left(t, c.start, c.end), words(t).Probe(c.end-1))
				c.gone()
				go other.send(raw(other.start, 0, "still here"))
				w.guest.expect(raw(other.start, 0, "still here"))
				if lines := w.logged(); len(lines) != 1 {
					t.Errorf("logged %q, want one line", lines)
				}
			})
		})
	}
}

// What a dying client has begun to say never reaches the guest.
func TestDeathInsideAFrame(t *testing.T) {
	play(t, func(w *world) {
		b := raw(1, 0, "never finished")
		for n := range b {
			c := w.connect()
			c.send(b[:n])
			c.leave()
			w.guest.expect(left(t, c.start, c.end), words(t).Probe(c.end-1))
			w.guest.send(message(t, c.end-1, &wire.Pong{}))
		}
		if lines := w.logged(); len(lines) != 0 {
			t.Errorf("logged %q", lines)
		}
	})
}

func TestShutdownPasses(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		for i, id := range []uint32{0, c.start} {
			b := raw(id, frame.Shutdown, "null")
			go c.send(b)
			w.guest.expect(b)
			if synctest.Wait(); w.ends != i+1 {
				t.Errorf("announced %d times, want %d", w.ends, i+1)
			}
		}
	})
}

// Frames with id 0 go out together with the clients' frames, and no client gets answers
// to them.
func TestMachine(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		clock := message(t, 0, &wire.ClockSync{UnixTimeNanos: 1})
		if err := w.Send(clock); err != nil {
			t.Fatal(err)
		}
		w.guest.expect(clock)
		for _, id := range []uint32{0, frame.Step, c.end, math.MaxUint32, 5 * frame.Step / 2} {
			w.guest.send(raw(id, frame.Terminal, "to nobody"))
		}
		w.guest.send(raw(c.start, 0, "to somebody"))
		c.expect(raw(c.start, 0, "to somebody"))
		var err error
		for range 10_000 {
			if err = w.Send(clock); err != nil {
				break
			}
		}
		if err == nil {
			t.Error("a guest that does not read is sent the time for ever")
		}
	})
}

// When the link ends, clients get all frames until then, and then the end.
func TestEndOfLink(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes string
		err   error
		lines int
	}{
		"machine ended": {"", io.EOF, 0},
		"in a frame":    {"\x00\x00\x00", io.ErrUnexpectedEOF, 1},
		"bad length":    {"\x00\x00\x00\x04", new(frame.LengthError), 1},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				a, b := w.connect(), w.connect()
				last := raw(a.start, 1, "last words")
				w.guest.send(append(last, tt.bytes...))
				w.guest.leave()
				<-w.Done()
				var length *frame.LengthError
				if err := w.Err(); !errors.Is(err, tt.err) && !errors.As(err, &length) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				a.expect(last)
				a.gone()
				b.gone()
				if _, err := w.Connect(); err == nil {
					t.Error("a relay that has ended takes clients")
				}
				if lines := w.logged(); len(lines) != tt.lines {
					t.Errorf("logged %q", lines)
				}
			})
		})
	}
}

// A client that does not take its last words holds the end up for a second.
func TestClose(t *testing.T) {
	play(t, func(w *world) {
		c := w.connect()
		w.guest.send(raw(c.start, 0, "unread"))
		synctest.Wait()
		start := time.Now()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
		if err := w.Err(); !errors.Is(err, relay.ErrClosed) {
			t.Error(err)
		}
	})
}

// What one client leaves unread is kept for it, in order, in memory and on disk,
// and holds up nobody.
func TestSlowClient(t *testing.T) {
	play(t, func(w *world) {
		slow, quick := w.connect(), w.connect()
		w.hear(quick)
		const frames, size = 40, 1 << 20
		for n := range frames {
			w.guest.send(raw(slow.start, 0, strings.Repeat(string(rune('a'+n%26)), size)))
			w.guest.send(raw(quick.start, 0, "pong"))
			quick.expect(raw(quick.start, 0, "pong"))
		}
		onDisk := relay.AllStored - w.DiskLeft()
		if want := int64(frames*size - relay.ClientMemory); onDisk < want-2*size || onDisk > want+2*size {
			t.Errorf("%d bytes are on disk, want about %d", onDisk, want)
		}
		for n := range frames {
			slow.expect(raw(slow.start, 0, strings.Repeat(string(rune('a'+n%26)), size)))
		}
		slow.leave()
		w.guest.expect(left(t, slow.start, slow.end))
		if left := w.DiskLeft(); left != relay.AllStored {
			t.Errorf("%d bytes of disk are not given back", relay.AllStored-left)
		}
	})
}

// A client that is alone stops the guest, and loses nothing; until there is
// another.
func TestSlowClientAlone(t *testing.T) {
	play(t, func(w *world) {
		slow, quick := w.connect(), w.connect() // This one has not said anything.
		w.hear(slow)
		const frames, size = 20, 1 << 20
		var sent atomic.Int32
		go func() {
			for n := range frames {
				w.guest.send(raw(slow.start, 0, strings.Repeat(string(rune('a'+n)), size)))
				sent.Add(1)
			}
			w.guest.send(raw(quick.start, 0, "pong"))
		}()
		synctest.Wait()
		if n := sent.Load(); n < 3 || n > 6 {
			t.Errorf("the guest has sent %d MiB that nobody reads", n)
		}
		for n := range frames / 2 {
			slow.expect(raw(slow.start, 0, strings.Repeat(string(rune('a'+n)), size)))
		}
		if left := w.DiskLeft(); left != relay.AllStored {
			t.Errorf("%d bytes are on disk", relay.AllStored-left)
		}
		w.hear(quick)
		quick.expect(raw(quick.start, 0, "pong"))
		for n := frames / 2; n < frames; n++ {
			slow.expect(raw(slow.start, 0, strings.Repeat(string(rune('a'+n)), size)))
		}
	})
}

// A client that speaks before it listens does not stop a guest that does so too.
func TestClientAloneThatOnlySpeaks(t *testing.T) {
	play(t, func(w *world) {
		const frames, size = 20, 1 << 20
		c := w.connect()
		w.hear(c)
		said := raw(c.start, 0, strings.Repeat("c", size))
		go func() {
			for range frames {
				c.send(said)
			}
			for n := range frames {
				c.expect(raw(c.start, 0, strings.Repeat(string(rune('a'+n)), size)))
			}
		}()
		for n := range frames {
			w.guest.send(raw(c.start, 0, strings.Repeat(string(rune('a'+n)), size)))
		}
		for range frames {
			w.guest.expect(said)
		}
		synctest.Wait()
	})
}

// A client that is waited for can leave, and so can the link.
func TestSlowClientAloneEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, c *peer){
		"client leaves": func(_ *world, c *peer) { c.leave() },
		"relay closes":  func(w *world, _ *peer) { _ = w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				slow := w.connect()
				w.hear(slow)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for range 6 {
						if _, err := w.guest.conn.Write(raw(slow.start, 0, strings.Repeat("x", 1<<20))); err != nil {
							return
						}
					}
				}()
				synctest.Wait()
				select {
				case <-sent:
					t.Fatal("the link does not wait")
				default:
				}
				end(w, slow)
				<-sent
			})
		})
	}
}

// A client for which no more can be kept is ended like one that left.
func TestClientThatNeverReads(t *testing.T) {
	play(t, func(w *world) {
		w.LimitDisk(8 << 20)
		dead, quick := w.connect(), w.connect()
		w.hear(quick)
		request := message(t, dead.start, &wire.ExecRequest{Cmd: "yes"})
		go dead.send(request)
		w.guest.expect(request)
		synctest.Wait()
		flood := raw(dead.start, 0, strings.Repeat("y\n", 1<<18))
		for range 40 {
			w.guest.send(flood)
			w.guest.send(raw(quick.start, 0, "pong"))
			quick.expect(raw(quick.start, 0, "pong"))
		}
		w.guest.expect(words(t).Hold(dead.start), words(t).Go(dead.start), words(t).Kill(dead.start))
		w.guest.send(message(t, dead.start, &wire.ExecExited{Code: -1}))
		w.guest.expect(left(t, dead.start, dead.end), words(t).Probe(dead.end-1))
		if lines := w.logged(); len(lines) != 1 || !strings.Contains(lines[0], "unread") {
			t.Errorf("logged %q", lines)
		}
		if left := w.DiskLeft(); left != 8<<20 {
			t.Errorf("%d bytes of disk are left", left)
		}
	})
}

// A guest that does not read stops the clients in their sockets: what is held is
// bounded, nothing is lost, and order is kept.
func TestGuestThatDoesNotRead(t *testing.T) {
	play(t, func(w *world) {
		const frames, size = 64, 10_000
		clients := []*peer{w.connect(), w.connect()}
		var sent [2]int
		for i, c := range clients {
			go func() {
				for n := range frames {
					c.send(raw(c.start, 0, fmt.Sprintf("%4d%s", n, strings.Repeat("x", size))))
					sent[i] = n + 1
				}
			}()
		}
		synctest.Wait()
		for i, n := range sent {
			if n < 5 || n > 12 { // 64 KiB of them are queued, and one or two more on the way.
				t.Errorf("client %d has sent %d frames that nobody reads", i, n)
			}
		}
		var next [2]int
		for range 2 * frames {
			f, err := w.guest.frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			slot, _ := frame.SlotOf(f.ID)
			if want := fmt.Sprintf("%4d", next[slot]); !bytes.HasPrefix(f.Body, []byte(want)) {
				t.Fatalf("client %d: got frame %.4s, want %s", slot, f.Body, want)
			}
			next[slot]++
		}
	})
}
