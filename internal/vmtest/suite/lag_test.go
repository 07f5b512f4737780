package suite

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/agentd-go/agentd/wire"
)

const (
	// lagged is how many answers a host leaves unread, and lag for how long.
	lagged = 30_000
	lag    = 5 * time.Second
)

// manyPings are pings on as many ids.
func manyPings(first uint32) (b []byte, err error) {
	for i := range uint32(lagged) {
		if b, err = wire.AppendFrame(b, wire.Newest, first+i, &wire.Ping{}); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// laggingHost reads nothing while it asks for signs of life: it gets every answer.
//
//holds:wire 7: 30,000 pings that a host does not read for 5 s are all answered; through a relay other clients do not notice
func laggingHost(t *testing.T, m *trial) {
	t.Helper()
	p := m.raw(33)
	b, err := manyPings(p.ID(0))
	if err != nil {
		t.Fatal(err)
	}
	m.tap.Hold(true)
	first, behind := p.ID(0), p.ID(lagged)
	if err := m.tap.Write(b, first); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lag)
	m.tap.Hold(false)
	for end := time.Now().Add(patience); p.Kept(first, behind) < lagged && time.Now().Before(end); {
		if _, err := m.raw(34).Round(); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.Kept(first, behind); n != lagged {
		t.Errorf("%d of %d pings were answered", n, lagged)
	}
	m.tap.Drop(p.All())
}

// laggard is a client that asks and does not read for a while: it gets every answer,
// and no other client waits for it.
//
//holds:wire 7: 30,000 pings that a host does not read for 5 s are all answered; through a relay other clients do not notice
func (h *hub) laggard() error {
	if h.Client().Generation() < pingGeneration {
		return nil // Its agent announces none.
	}
	b, err := h.bare()
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // What it has said is judged.
	pings, err := manyPings(b.start)
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		_, err := b.Write(pings)
		written <- err
	}()
	if err := h.undisturbed(lag); err != nil {
		return err
	}
	answered := 0
	for ; answered < lagged; answered++ {
		if _, err := b.until(wire.TypePong); err != nil {
			return fmt.Errorf("%d of %d pings were answered: %w", answered, lagged, err)
		}
	}
	return <-written
}

// undisturbed has another client ask for signs of life, none of which takes long.
func (h *hub) undisturbed(d time.Duration) error {
	const bound = 2 * time.Second // Emulated, beside the answers to 30,000 others.
	for end := time.Now().Add(d); time.Now().Before(end); {
		took, err := h.alive()
		if err == nil && took > bound {
			err = errors.New("another client waits for it")
		}
		if err != nil {
			return fmt.Errorf("a sign of life after %v: %w", took, err)
		}
	}
	return nil
}
