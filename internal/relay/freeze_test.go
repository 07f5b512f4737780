package relay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire/frame"
)

// freezing gives a relay a guest that counts and freezes. Its answers are frames with the
// id of nobody: "frozen NAME", "thawed NAME" or "refused NAME".
func freezing(_ *world, cfg *relay.Config) {
	cfg.Words.First = relay.Limits{ControlBytes: 1 << 20, ControlFrames: 1000, DataBytes: 1 << 20, DataFrames: 1000}
	cfg.Words.IsData = func(frame.Frame) bool { return false }
	cfg.Words.Credit = func(frame.Frame) (relay.Limits, bool) { return relay.Limits{}, false }
	cfg.Words.Answer = func(f frame.Frame) (a relay.Answer, ok bool) {
		what, name, ok := strings.Cut(string(f.Body), " ")
		a.Attempt = name
		if what == "refused" {
			a.Err = errors.New("refused")
		}
		return a, ok && f.ID == nobodysID
	}
}

const nobodysID = 0xFFFFFFFF

func ask(t *testing.T, w *world, name string, sent *relay.Limits) chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := w.Freeze(w.t.Context(), relay.Freeze{
			Attempt: name, Undo: raw(nobodysID, 0, "undo "+name),
			Ask: func(l relay.Limits) []byte {
				*sent = l
				return raw(nobodysID, 0, "freeze "+name)
			},
		})
		done <- err
	}()
	return done
}

// What clients send waits from the freeze to the thaw, and the counts are those of whole
// frames that the guest has.
func TestFreeze(t *testing.T) {
	playWith(t, freezing, func(w *world) {
		c := w.connect()
		first := raw(c.start, frame.SessionStart, "first")
		go c.send(first)
		w.guest.expect(first)
		var sent relay.Limits
		done := ask(t, w, "a", &sent)
		w.guest.expect(raw(nobodysID, 0, "freeze a"))
		if sent.ControlFrames != 1 || sent.ControlBytes != uint64(len(first)) {
			t.Errorf("sent %+v, want the one frame of %d bytes", sent, len(first))
		}
		// Output that comes before the answer is passed on.
		late := raw(c.start, 0, "late")
		go w.guest.send(late)
		c.expect(late)
		go w.guest.send(raw(nobodysID, 0, "frozen b")) // Of a request that was given up.
		go w.guest.send(raw(nobodysID, 0, "frozen a"))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		second := raw(c.start, 0, "second")
		go c.send(second)
		w.guest.silent()
		if err := <-ask(t, w, "c", &sent); err == nil {
			t.Error("two freezes at once")
		}
		go func() {
			_, err := w.Thaw(w.t.Context(), "a", raw(nobodysID, 0, "thaw a"))
			done <- err
		}()
		w.guest.expect(raw(nobodysID, 0, "thaw a"))
		w.guest.silent()
		go w.guest.send(raw(nobodysID, 0, "thawed a"))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.guest.expect(second)
	})
}

// After a freeze that fails everything goes on, and the guest is told.
func TestFreezeFails(t *testing.T) {
	for name, fail := range map[string]func(w *world){
		"refused": func(w *world) { w.guest.send(raw(nobodysID, 0, "refused a")) },
		"late":    func(*world) {},
	} {
		t.Run(name, func(t *testing.T) {
			playWith(t, freezing, func(w *world) {
				c := w.connect()
				ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
				defer cancel()
				done := make(chan error, 1)
				go func() {
					_, err := w.Freeze(ctx, relay.Freeze{
						Attempt: "a", Undo: raw(nobodysID, 0, "undo a"), Ask: func(relay.Limits) []byte { return raw(nobodysID, 0, "freeze a") },
					})
					done <- err
				}()
				w.guest.expect(raw(nobodysID, 0, "freeze a"))
				b := raw(c.start, frame.SessionStart, "waits")
				go c.send(b)
				synctest.Wait()
				go fail(w)
				w.guest.expect(raw(nobodysID, 0, "undo a"), b)
				if <-done == nil {
					t.Error("it has not failed")
				}
			})
		})
	}
}

// A relay that goes on from another one's cut sends nothing before the thaw, and counts on.
func TestFromCut(t *testing.T) {
	cut := relay.Cut{Sent: relay.Limits{ControlFrames: 7, ControlBytes: 700}, Limit: relay.Limits{ControlFrames: 9, ControlBytes: 1 << 20}}
	playWith(t, func(w *world, cfg *relay.Config) {
		freezing(w, cfg)
		cfg.Words.First, cfg.From = relay.Limits{}, &cut
	}, func(w *world) {
		c := w.connect()
		b := raw(c.start, frame.SessionStart, "one")
		go c.send(b)
		w.guest.silent()
		go func() { _, _ = w.Thaw(w.t.Context(), "a", raw(nobodysID, 0, "thaw a")) }()
		w.guest.expect(raw(nobodysID, 0, "thaw a"))
		go w.guest.send(raw(nobodysID, 0, "thawed a"))
		w.guest.expect(b)
		synctest.Wait()
		var sent relay.Limits
		_ = ask(t, w, "b", &sent)
		w.guest.expect(raw(nobodysID, 0, "freeze b"))
		if sent.ControlFrames != 8 || sent.ControlBytes != 700+uint64(len(b)) {
			t.Errorf("sent %+v, want one more frame", sent)
		}
	})
}
