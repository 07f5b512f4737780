package sandbox

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// share puts a relay between the port and its clients. Our own client connects first,
// before the socket exists, and has slot 0.
func (m *Machine) share(cfg Config, h *handshake) error {
	m.saving.link = link{Ready: h.Frame, Generation: h.Generation, Leased: h.leased}
	return m.relayTo(cfg, h, func() error { return nil })
}

// relayTo is share for a guest that is ready, or frozen: begin lets it go on before the
// first client connects.
func (m *Machine) relayTo(cfg Config, h *handshake, begin func() error) error {
	var listener net.Listener // nil if only our own client connects.
	if cfg.Socket != "" {
		var err error
		if listener, err = relay.Listen(cfg.Socket); err != nil {
			return err
		}
	}
	m.relay = relay.New(relay.Config{
		Link:     h.Link,
		Records:  h.recordLink(),
		Ready:    h.Frame,
		Words:    words(h.Generation, h.leases(), h.freezes()),
		From:     h.from,
		Dir:      m.layout.dir,
		Shutdown: m.killAfterDeadline,
		Log:      cfg.Log,
	})
	err := begin()
	if err == nil {
		m.client, err = m.connect(h)
	}
	if err != nil {
		if listener != nil {
			_ = listener.Close() // It has served no client.
		}
		return fmt.Errorf("relay: %w", err)
	}
	if listener != nil {
		m.relay.Serve(listener)
	}
	return nil
}

// connect returns our own client of the relay.
func (m *Machine) connect(h *handshake) (*client.Client, error) {
	conn, err := m.relay.Connect()
	if err == nil {
		// Skip the relay's handshake: its content is known.
		_, err = io.ReadFull(conn, make([]byte, 8+len(h.Frame)))
	}
	if err != nil {
		return nil, err
	}
	start, end := frame.SlotRange(0)
	return client.New(&client.Greeting{Link: conn, Ready: h.Ready, Generation: h.Generation}, client.IDs{Start: start, End: end}), nil
}

// recordLink returns the second port, or a nil interface if there is none.
func (h *handshake) recordLink() io.ReadWriteCloser {
	if h.records == nil {
		return nil
	}
	return h.records
}

// leases reports whether the agent acknowledges the ends of clients, which it announces
// only to hosts that know leases.
func (h *handshake) leases() bool {
	lease := h.Ready.RelayLease
	return h.leased && lease != nil && lease.MaxFormat >= 1
}

// words returns the frames that a relay sends to an agent.
func words(agent wire.Generation, leases, counts bool) relay.Words {
	w := relay.Words{
		Kill: func(id uint32) []byte {
			const kill = 9
			return encode(id, &wire.ExecSignal{Signal: kill})
		},
		Hold: func(id uint32) []byte { return encode(id, &wire.ExecSignal{Output: wire.OutputHold}) },
		Go:   func(id uint32) []byte { return encode(id, &wire.ExecSignal{Output: wire.OutputGo}) },
		Left: func(start, end uint32, which *relay.Incarnation) []byte {
			m := &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end}
			if which != nil {
				m.Incarnation = (*[16]byte)(which)
			}
			return encode(0, m)
		},
		Probe: func(id uint32) []byte {
			if info, _ := wire.Lookup(wire.TypePing); agent >= info.Since {
				return encode(id, &wire.Ping{})
			}
			// Older agents have no ping, but answer every request.
			return encode(id, &wire.FSRequest{Op: &wire.OpStat{Path: "/"}})
		},
		IsCommand: func(f frame.Frame) bool {
			e, err := wire.DecodeEnvelope(f.Body)
			return err == nil && (e.Type == wire.TypeExecRequest || e.Type == wire.TypeKeptAttach)
		},
	}
	if leases {
		w.Lease, w.Released = grant, released
	}
	if counts {
		w.First, w.IsData, w.Credit, w.Answer = limits(wire.FirstCredit()), isData, credit, freezeAnswer
	}
	return w
}

func grant(start, end uint32, which relay.Incarnation) []byte {
	return wire.AppendLease(nil, wire.Lease{
		Event: wire.LeaseGranted, IDStart: start, IDEndExclusive: end, Incarnation: which,
	})
}

func released(f frame.Frame) (relay.Incarnation, bool) {
	if !wire.IsLease(f) {
		return relay.Incarnation{}, false
	}
	l, err := wire.DecodeLease(f.Body)
	return l.Incarnation, err == nil && l.Event == wire.LeaseReleased
}

func limits(c wire.TransportCounters) relay.Limits {
	return relay.Limits{
		ControlBytes: c.ControlBytes, ControlFrames: c.ControlFrames, DataBytes: c.BulkBytes, DataFrames: c.BulkFrames,
	}
}

// isData reports whether a frame to the agent counts as data against its credit.
func isData(f frame.Frame) bool {
	e, err := wire.DecodeEnvelope(f.Body)
	return err == nil && wire.CountsAsData(e.Type)
}

// credit is what the agent says that it takes from its host.
func credit(f frame.Frame) (relay.Limits, bool) {
	e, err := wire.DecodeEnvelope(f.Body)
	if f.ID != wire.WorkloadID || err != nil || e.Type != wire.TypeWorkloadTransportCredit {
		return relay.Limits{}, false
	}
	m, err := wire.Decode(e)
	c, ok := m.(*wire.WorkloadTransportCredit)
	if !ok || err != nil {
		return relay.Limits{}, false
	}
	return limits(c.TransportCounters), true
}

// encode makes a frame of a message whose fields always fit into one.
func encode(id uint32, m wire.Message) []byte {
	b, err := wire.AppendFrame(nil, wire.Newest, id, m)
	if err != nil {
		return nil // Only texts and bytes could be too long.
	}
	return b
}

// killAfterDeadline kills a machine that a client has told to end and that does not end
// in time. That client may have left, and no other client knows of the request.
func (m *Machine) killAfterDeadline() {
	m.killing.Do(func() {
		m.loops.Go(func() {
			timer := time.NewTimer(m.endDeadline())
			defer timer.Stop()
			select {
			case <-m.vm.Done():
			case <-timer.C:
				m.kill()
			}
		})
	})
}
