package session

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// Floods wait for a command that begins, for a short time, and not most of the time.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g startGrace
		waits := func() time.Duration {
			start := time.Now()
			g.wait()
			return time.Since(start)
		}
		if d := waits(); d != 0 {
			t.Errorf("waited %v for nobody", d)
		}
		g.begin()
		if d := waits(); d != 0 {
			t.Errorf("waited %v though there is no flood", d)
		}
		g.flood()
		endGrace := g.begin()
		time.AfterFunc(5*time.Millisecond, endGrace)
		if d := waits(); d != 5*time.Millisecond {
			t.Errorf("waited %v for a command that took 5ms", d)
		}
		time.Sleep(time.Second)
		g.flood()
		defer g.begin()()
		if d := waits(); d != graceTime {
			t.Errorf("waited %v for a command without end, want %v", d, graceTime)
		}
		var paused time.Duration
		start := time.Now()
		for time.Since(start) < 10*time.Second {
			g.flood()
			endGrace := g.begin()
			paused += waits()
			endGrace()
			time.Sleep(time.Millisecond)
		}
		if paused > 6*time.Second {
			t.Errorf("waited %v of 10s", paused)
		}
	})
}

// A command that says much does not wait for itself.
func TestGraceOfFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Host{Generation: wire.Newest, Pool: NewPool(), Writer: mux.NewWriter(io.Discard, 0)}
		go func() { _ = h.Writer.Run() }()
		defer h.Writer.Close()
		time.Sleep(time.Second) // Credit for a pause.
		h.turns.grace.flood()
		endGrace := h.turns.grace.begin()
		defer endGrace()
		from := Stored(bytes.NewReader(make([]byte, turnBytes)).Read)
		p := NewPump(h.NewBase(1, nil, nil, nil), wire.TypeExecStdout, from, &h.Activity.Output)
		p.Flooded = endGrace
		start := time.Now()
		if err := p.Run(); !errors.Is(err, io.EOF) {
			t.Errorf("the output ended with %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("waited %v", d)
		}
	})
}
