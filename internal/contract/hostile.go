package contract

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// burst is how many hostile frames are sent before the agent must show that it has read
// them.
const burst = 500

// Hostile sends n random frames from a seed, on ids of the peer, of two others and of
// no client: real frames, real frames with flipped bits or cut short, and noise. They
// have any flags and any order, but a valid length. No frame starts a command that
// could do harm. Then the clients leave.
func (p *Peer) Hostile(seed uint64, n int) error {
	h := hostile{Rand: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // Repeatable.
	q, r := p.Other(), p.Other().Other()
	for _, owner := range []*Peer{p, q, r} {
		for session := range uint32(20) {
			h.ids = append(h.ids, owner.ID(session))
		}
	}
	h.ids = append(h.ids, 0, frame.Step, 128*frame.Step, 0xffffffff)
	if err := h.prepare(); err != nil {
		return err
	}
	for sent := 0; sent < n; sent += burst {
		if err := h.burst(p, min(burst, n-sent)); err != nil {
			return fmt.Errorf("after %d frames: %w", sent, err)
		}
	}
	err := errors.Join(p.Leave(), q.Leave(), r.Leave())
	if err == nil {
		err = r.Other().alive()
	}
	for _, owner := range []*Peer{p, q, r} {
		p.Drop(owner.All())
	}
	_ = p.Faults() // An agent may say more than one last word on an id that was used while it spoke.
	return err
}

type hostile struct {
	*rand.Rand
	ids      []uint32
	patterns [][]byte // Flags and body.
}

// prepare makes the patterns: messages that a host sends, and some that it must not.
// A shutdown would be an end and no fault.
func (h *hostile) prepare() error {
	for _, m := range []wire.Message{
		&wire.ExecRequest{Cmd: "true"}, &wire.ExecRequest{Cmd: "cat", TTY: true}, &wire.ExecStdin{Data: []byte("data")},
		&wire.ExecStdin{}, &wire.ExecSignal{Signal: 9}, &wire.ExecResize{Rows: 3, Cols: 4}, &wire.Ping{}, &wire.Touch{},
		&wire.ClientDisconnected{IDStart: 1, IDEndExclusive: 9}, &wire.TCPConnect{Host: "localhost", Port: 1},
		&wire.TCPConnect{Host: "127.0.0.1", Port: EchoPort},
		&wire.Bootstrap{}, &wire.InitAck{}, &wire.ExecExited{}, &wire.ClockSync{UnixTimeNanos: 1 << 60},
		&wire.TCPData{Data: []byte("data")}, &wire.TCPEOF{}, &wire.TCPClose{}, &wire.FSData{Data: []byte("data")}, &wire.FSData{Data: []byte{}},
		&wire.FSRequest{Op: &wire.OpStat{Path: "/tmp"}}, &wire.FSRequest{Op: &wire.OpList{Path: "/proc"}},
		&wire.FSRequest{Op: &wire.OpOpenFile{Path: "/tmp/f", Options: wire.OpenOptions{Read: true, Write: true, Create: true}}},
		&wire.FSRequest{Op: &wire.OpOpenDir{Path: "/tmp"}}, &wire.FSRequest{Op: &wire.OpCloseHandle{Handle: 3}},
		&wire.FSRequest{Op: &wire.OpRead{Handle: 1}}, &wire.FSRequest{Op: &wire.OpWrite{Handle: 1}},
		&wire.FSRequest{Op: &wire.OpReadDir{Handle: 2}}, &wire.FSRequest{Op: &wire.OpFStat{Handle: 1}},
		&wire.FSRequest{Op: &wire.OpFSetStat{Handle: 1, Attrs: wire.FSAttrs{Size: new(uint64(9))}}},
	} {
		const lengthAndID = 8
		b, err := wire.AppendFrame(nil, speaks, 0, m)
		if err != nil {
			return err
		}
		h.patterns = append(h.patterns, b[lengthAndID:])
	}
	return nil
}

// burst sends frames in one write and waits until the agent has read them.
func (h *hostile) burst(p *Peer, n int) error {
	var b []byte
	for range n {
		var err error
		if b, err = h.appendFrame(b); err != nil {
			return err
		}
	}
	if err := p.Write(b, h.ids...); err != nil {
		return err
	}
	if err := p.Other().Other().Other().alive(); err != nil {
		return err
	}
	for _, id := range h.ids {
		p.Drop(id, id+1)
	}
	_ = p.Faults()
	return nil
}

// appendFrame makes a frame on one of a few ids out of a pattern or of noise.
func (h *hostile) appendFrame(b []byte) ([]byte, error) {
	body := append([]byte{}, h.patterns[h.IntN(len(h.patterns))]...)
	switch h.IntN(5) {
	case 0: // As it is.
	case 1:
		for range 1 + h.IntN(4) {
			body[h.IntN(len(body))] ^= 1 << h.IntN(8)
		}
	case 2:
		body = body[:1+h.IntN(len(body))]
	case 3:
		body[0] = byte(h.Uint32()) // Any flags.
	default:
		for i := range body {
			body[i] = byte(h.Uint32())
		}
	}
	return frame.Append(b, frame.Frame{ID: h.ids[h.IntN(len(h.ids))], Flags: frame.Flags(body[0]), Body: body[1:]})
}
