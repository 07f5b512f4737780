package contract

import (
	"errors"
	"fmt"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// raw sends a frame with the given type, flags, generation and payload on session n.
func (p *Peer) raw(n uint32, flags frame.Flags, v byte, name, payload string) error {
	body := append([]byte{0xa3, 0x61, 'v', 0x18, v, 0x61, 't', 0x78, byte(len(name))}, name...)
	body = append(append(body, 0x61, 'p', 0x58, byte(len(payload))), payload...)
	return p.frame(n, flags, body)
}

func (p *Peer) frame(n uint32, flags frame.Flags, body []byte) error {
	b, err := frame.Append(nil, frame.Frame{ID: p.ID(n), Flags: flags, Body: body})
	if err != nil {
		return err
	}
	return p.Write(b, p.ID(n))
}

// refused waits for a core.error of a kind on session n.
func (p *Peer) refused(n uint32, kind wire.ErrorKind) error { return p.refusedOn(p.ID(n), kind, "") }

// refusedOn waits for a core.error on an id; it must name the type, if one is given.
func (p *Peer) refusedOn(id uint32, kind wire.ErrorKind, offending wire.Type) error {
	r, err := p.Next(p.Ctx, id)
	if err != nil {
		return err
	}
	m, ok := r.Message.(*wire.ProtocolError)
	if !ok || m.Kind != kind || (offending != "" && m.OffendingType != offending) {
		return fmt.Errorf("answered with %s %+v, want %s of %s", r.Type, r.Message, kind, offending)
	}
	return nil
}

// silent returns an error if session n was answered after the agent has read all
// frames.
func (p *Peer) silent(n uint32) error {
	if err := p.alive(); err != nil {
		return err
	}
	if left := p.Left(n); left != 0 {
		r, err := p.Hear(n)
		return errors.Join(fmt.Errorf("answered with %d frames, the first %s %+v", left, r.Type, r.Message), err)
	}
	return nil
}

// wrongFlags: one answer where the sender knows it, and nothing else happens.
func wrongFlags(p *Peer) error {
	return first(
		func() error { return p.raw(50, 1, 7, "core.exec.signal", "\xa1fsignal\x0f") },
		func() error { return p.refusedOn(p.ID(50), wire.ErrorInvalidFlags, wire.TypeExecSignal) },
		func() error { return p.raw(50, 0, 7, "core.exec.request", "\xa1ccmddtrue") },
		func() error { return p.refusedOn(p.ID(50), wire.ErrorInvalidFlags, wire.TypeExecRequest) },
		func() error { return p.raw(50, 0, 7, "core.shutdown", "\xf6") },
		func() error { return p.refusedOn(p.ID(50), wire.ErrorInvalidFlags, wire.TypeShutdown) },
		func() error { return p.misflagged() },
		func() error { return p.silent(50) },
	)
}

// misflagged sends types that only guests send, or only before the agent serves: in
// silence they are passed over only with their own flags.
func (p *Peer) misflagged() error {
	for _, tt := range []struct {
		name    wire.Type
		flags   frame.Flags
		payload string
	}{
		{wire.TypeExecStdout, frame.Terminal, "\xa1ddata@"},
		{wire.TypeExecExited, 0, "\xa1dcode\x00"},
		{wire.TypePong, 0, "\xa0"},
		{wire.TypeReady, frame.SessionStart, "\xa0"},
		{wire.TypeInitAck, frame.Terminal, "\xa0"},
	} {
		if err := errors.Join(p.raw(50, tt.flags, 7, string(tt.name), tt.payload),
			p.refusedOn(p.ID(50), wire.ErrorInvalidFlags, tt.name)); err != nil {
			return fmt.Errorf("%s with flags %d: %w", tt.name, tt.flags, err)
		}
	}
	return nil
}

// badPayload is one answer, and other sessions are undisturbed.
func badPayload(p *Peer) error {
	if err := p.Send(51, Shell("read line; echo still $line")); err != nil {
		return err
	}
	for _, tt := range []struct {
		name    string
		flags   frame.Flags
		payload string
	}{
		{"core.exec.request", 2, "\xa0"},
		{"core.exec.request", 2, "\xf6"},
		{"core.exec.request", 2, "\xa1ccmdDtrue"},
		{"core.exec.request", 2, "\xa2ccmddtruedrows\x1a\x00\x01\x11\x70"},
		{"core.exec.request", 2, "\xa2ccmddtruedargs\xf6"},
		{"core.exec.signal", 0, "\xa0"},
		{"core.fs.request", 2, "\xa1bop\xa1gUnheard\xa0"},
		{"core.fs.request", 2, "\xa1bop\xa1dStat\xa1dpatha/"},
		{"core.tcp.connect", 2, "\xa2dhostaxdport\x20"},
		{"core.ping", 0, "\xf6"},
		{"core.touch", 0, ""},
	} {
		err := p.raw(52, tt.flags, 7, tt.name, tt.payload)
		if err == nil {
			err = p.refusedOn(p.ID(52), wire.ErrorInvalidPayload, wire.Type(tt.name))
		}
		if err == nil {
			err = p.silent(52)
		}
		if err != nil {
			return fmt.Errorf("%s %q: %w", tt.name, tt.payload, err)
		}
	}
	return errors.Join(p.Send(51, &wire.ExecStdin{Data: []byte("here\n")}), p.echoed(51, "still here\n"))
}

// oldClients send requests for which their generation has no error: they are dropped.
func oldClients(p *Peer) error {
	for _, send := range []func() error{
		func() error { return p.raw(53, 1, 4, "core.exec.signal", "\xa1fsignal\x0f") },
		func() error { return p.raw(53, 0, 4, "core.exec.signal", "\xa0") },
		func() error { return p.raw(53, 0, 4, "core.unheard.of", "\xa0") },
		func() error { return p.raw(53, 0, 4, "core.fs.data", "\xa1ddatac???") },
	} {
		if err := send(); err != nil {
			return err
		}
		if err := p.silent(53); err != nil {
			return err
		}
	}
	return nil
}

func badEnvelopes(p *Peer) error {
	if err := errors.Join(p.raw(54, 0, 7, "core.unheard.of", "\xa0"),
		p.refusedOn(p.ID(54), wire.ErrorUnsupportedType, "core.unheard.of")); err != nil {
		return err
	}
	for _, body := range []string{"", "\xff", "\xa0", "garbage", "\xa3av\x07atipap@", "\xa2atdcorepap@"} {
		err := p.frame(54, 0, []byte(body))
		if err == nil {
			err = p.refusedOn(p.ID(54), wire.ErrorMalformed, "")
		}
		if err == nil {
			err = p.silent(54)
		}
		if err != nil {
			return fmt.Errorf("body %q: %w", body, err)
		}
	}
	return nil
}

// idsOfNobody open nothing; the machine answers there.
func idsOfNobody(p *Peer) error {
	for _, id := range []uint32{0, frame.Step, 127 * frame.Step, 128 * frame.Step, 0xffffffff} {
		for _, m := range []wire.Message{
			&wire.ExecRequest{Cmd: "true"}, &wire.FSRequest{Op: &wire.OpOpenDir{Path: "/"}}, &wire.TCPConnect{Host: "localhost", Port: 1},
		} {
			b, err := wire.AppendFrame(nil, speaks, id, m)
			if err == nil {
				err = p.Write(b, id)
			}
			if err == nil {
				err = p.refusedOn(id, wire.ErrorInvalidSession, m.Type())
			}
			if err != nil {
				return fmt.Errorf("id %#x: %w", id, err)
			}
		}
	}
	return nil
}

// misdirected are passed over in silence.
func misdirected(p *Peer) error {
	for _, tt := range []struct{ name, payload string }{
		{"core.exec.stdout", "\xa1ddata@"},
		{"core.init.ack", "\xa0"},
		{"core.bootstrap", "\xa0"},
		{"core.ready", "\xa0"},
		{"core.tcp.eof", "\xa0"},
		{"core.tcp.close", "\xa0"},
		{"core.exec.stdin", "\xa1ddataAx"},
		{"core.exec.resize", "\xa2drows\x01dcols\x01"},
	} {
		if tt.name == string(wire.TypeBootstrap) && p.Generation() < 7 {
			continue // It does not know the type.
		}
		if err := errors.Join(p.raw(55, 0, 7, tt.name, tt.payload), p.silent(55)); err != nil {
			return fmt.Errorf("%s: %w", tt.name, err)
		}
	}
	return nil
}
