package contract

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// core are the frames themselves, ids, and what concerns the machine as a whole
// (protocol sections 2 to 7).
func core() []Behaviour {
	return []Behaviour{
		{Name: "core: every byte alone", Check: everyByteAlone},
		{Name: "core: many frames in one write", Check: manyFrames},
		{Name: "core: maximal frames back to back", Check: maximalFrames, Own: "a frame with more behind it exceeds its buffer, which ends it"},
		{Name: "core: any generation", Check: anyGeneration},
		{Name: "core: first and last ids", Check: edgeIDs},
		{Name: "core: recorded requests", Check: recordedRequests},
		{Name: "core: every form of a request", Check: everyForm},
		{Name: "core: ping and touch", Check: pingAndTouch},
		{Name: "core: what counts", Check: whatCounts},
		soon(Behaviour{Name: "core: wrong flags", Check: wrongFlags}),
		{Name: "core: bad payload", Check: badPayload, Own: "of generation 4 dies of it"},
		{Name: "core: bad frames of old clients", Check: oldClients, Own: "it dies of them"},
		{Name: "core: unknown type and bad envelope", Check: badEnvelopes, Own: "it dies of them"},
		{Name: "core: ids of nobody", Check: idsOfNobody, Own: "it opens sessions there"},
		{Name: "core: late and misdirected messages", Check: misdirected},
		{Name: "core: signals out of range", Check: strangeSignals},
		soon(Behaviour{Name: "core: duplicate id", Check: duplicateID}),
	}
}

// echoed is what a command must have said.
func (p *Peer) echoed(n uint32, want string) error {
	r, err := p.Collect(n)
	switch {
	case err != nil:
		return err
	case r.Failed != nil:
		return errors.New(r.Failed.Message)
	case string(r.Stdout) != want || r.Code != 0:
		return fmt.Errorf("session %d: %q and code %d, want %q", n, r.Stdout, r.Code, want)
	}
	return nil
}

// catFrames are whole commands on sessions from 10 on, as one piece of bytes.
func (p *Peer) catFrames(commands uint32) (b []byte, ids []uint32, err error) {
	for n := range commands {
		for _, m := range []wire.Message{
			&wire.ExecRequest{Cmd: "cat"}, &wire.ExecStdin{Data: []byte("text")}, &wire.ExecStdin{Data: []byte{}},
		} {
			if b, err = wire.AppendFrame(b, speaks, p.ID(10+n), m); err != nil {
				return nil, nil, err
			}
		}
		ids = append(ids, p.ID(10+n))
	}
	return b, ids, nil
}

// split sends commands in pieces of a size.
func (p *Peer) split(commands uint32, size int) error {
	b, ids, err := p.catFrames(commands)
	if err != nil {
		return err
	}
	err = p.Pieces(func(write func([]byte) error) error {
		for rest := b; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if err := write(rest[:min(size, len(rest))]); err != nil {
				return err
			}
		}
		return nil
	}, ids...)
	if err != nil {
		return err
	}
	for n := range commands {
		if err := p.echoed(10+n, "text"); err != nil {
			return fmt.Errorf("pieces of %d: %w", size, err)
		}
	}
	return nil
}

func everyByteAlone(p *Peer) error {
	return errors.Join(p.split(2, 1), p.split(3, 7))
}

func manyFrames(p *Peer) error { return p.split(20, 1<<20) }

// maximalFrames are three of the largest there are, for a command that counts.
func maximalFrames(p *Peer) error {
	const frames = 3
	empty, err := p.Frame(20, &wire.ExecStdin{Data: make([]byte, frame.MaxBody/2)})
	if err != nil {
		return err
	}
	size := frame.MaxBody/2 + frame.MaxLength + 4 - len(empty)
	b, err := p.Frame(20, Shell("wc -c"))
	if err != nil {
		return err
	}
	for range frames {
		if b, err = wire.AppendFrame(b, speaks, p.ID(20), &wire.ExecStdin{Data: make([]byte, size)}); err != nil {
			return err
		}
	}
	if b, err = wire.AppendFrame(b, speaks, p.ID(20), &wire.ExecStdin{Data: []byte{}}); err != nil {
		return err
	}
	if err := p.Write(b, p.ID(20)); err != nil {
		return err
	}
	return p.echoed(20, fmt.Sprintln(frames*size))
}

func anyGeneration(p *Peer) error {
	for i, v := range []wire.Generation{0, 1, 4, 5, 8, 9, 255} {
		id := p.ID(30 + uint32(i))
		b, err := wire.AppendFrame(nil, v, id, &wire.ExecRequest{Cmd: "echo", Args: []string{"hi"}})
		if err == nil {
			err = p.Write(b, id)
		}
		if err == nil {
			err = p.echoed(30+uint32(i), "hi\n")
		}
		if err != nil {
			return fmt.Errorf("generation %d: %w", v, err)
		}
	}
	return nil
}

// edgeIDs are the first and last of the first, second and last slots.
func edgeIDs(p *Peer) error {
	for _, id := range []uint32{1, 0x01fffffe, 0x02000000, 0x03fffffd, 127*frame.Step + 1, 0xfe000000, 128*frame.Step - 1} {
		slot, owned := frame.SlotOf(id)
		if !owned {
			return fmt.Errorf("id %#x has no owner", id)
		}
		q := p.Peer(p.Ctx, slot)
		n := id - q.ID(0)
		err := q.Send(n, &wire.ExecRequest{Cmd: "echo", Args: []string{"hi"}})
		if err == nil {
			err = q.echoed(n, "hi\n")
		}
		if err != nil {
			return fmt.Errorf("id %#x: %w", id, err)
		}
	}
	return nil
}

// recorded are bodies of real clients: that of the Rust one with all fields, and
// that of the TypeScript one, with long heads and tagged bytes.
var recorded = []string{
	"a3617604617471636f72652e657865632e7265717565737461705844a963636d64692f62696e2f6563686f64617267738162686963656e76" +
		"8063637764f66475736572f663747479f464726f7773181864636f6c73185067726c696d69747380",
	"b90003617605617471636f72652e657865632e726571756573746170d8405829b9000563636d64692f62696e2f6563686f646172677381" +
		"62686963747479f463637764f763656e7680",
}

// recordedRequests are answered like any.
func recordedRequests(p *Peer) error {
	for n, text := range recorded {
		body, err := hex.DecodeString(text)
		if err == nil {
			err = p.frame(uint32(n), frame.SessionStart, body)
		}
		if err == nil {
			err = p.echoed(uint32(n), "hi\n")
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
	}
	return nil
}

// The same request in every form that encoders may choose: around it, and in it.
var (
	envelopes = []func(payload string) string{
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap" + bytesHead(p) },
		func(p string) string { return "\xa3ap" + bytesHead(p) + "atqcore.exec.requestav\x07" },             // Another order.
		func(p string) string { return "\xa4enovel\x81\xf5av\x07atqcore.exec.requestap" + bytesHead(p) },    // An unknown key.
		func(p string) string { return "\xbfav\x07atqcore.exec.requestap\x5f" + bytesHead(p) + "\xff\xff" }, // No lengths.
		func(p string) string { return "\xb9\x00\x03av\x18\x07atx\x11core.exec.requestap" + bytesHead(p) },  // Long heads.
		func(p string) string { return "\xa3Av\x07Atqcore.exec.requestAp" + bytesHead(p) },                  // Keys of bytes.
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap\xd8\x40" + bytesHead(p) },          // Tagged bytes.
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap" + bytesHead(p) + "behind" },       // More behind it.
		func(p string) string { return "\xa3av\x07atqcore.exec.requestap" + numbers(p) },                    // Bytes as numbers.
	}
	payloads = []string{
		"\xa1ccmddtrue", "\xbfccmddtrue\xff", "\xa1ccmd\x7fbtrbue\xff", "\xb9\x00\x01ccmd\x78\x04true", "\xa1Ccmddtrue",
		"\xa1ccmddtruebehind", "\xa2enovel\xa1ax\xf6ccmddtrue", "\xa3ccmddtrueccwd\xf7duser\xf6", "\xa2dargs\x9faxay\xffccmddtrue",
	}
)

// bytesHead is a byte string of less than 256 bytes.
func bytesHead(s string) string { return "\x58" + string([]byte{byte(len(s))}) + s }

// numbers is the same as an array of integers.
func numbers(s string) string {
	b := []byte{0x98, byte(len(s))}
	for _, c := range []byte(s) {
		b = append(b, 0x18, c) // At its longest: that must do as well.
	}
	return string(b)
}

// everyForm is accepted.
func everyForm(p *Peer) error {
	var n uint32
	ask := func(body string) error {
		n++
		err := p.frame(100+n, frame.SessionStart, []byte(body))
		if err == nil {
			err = p.echoed(100+n, "")
		}
		if err != nil {
			return fmt.Errorf("body %q: %w", body, err)
		}
		return nil
	}
	for _, around := range envelopes {
		if err := ask(around(payloads[0])); err != nil {
			return err
		}
	}
	for _, payload := range payloads {
		if err := ask(envelopes[0](payload)); err != nil {
			return err
		}
	}
	return nil
}

// touch counts and returns the number.
func (p *Peer) touch() (uint64, error) {
	const n = 40
	if err := p.Send(n, &wire.Touch{}); err != nil {
		return 0, err
	}
	r, err := p.Hear(n)
	if err != nil {
		return 0, err
	}
	m, ok := r.Message.(*wire.Touched)
	if !ok {
		return 0, fmt.Errorf("a touch is answered with %s", r.Type)
	}
	return m.ActivitySeq, nil
}

// more is how much the activity grew over what is done, beside the touch.
func (p *Peer) moreBy(do func() error) (uint64, error) {
	before, err := p.touch()
	if err == nil {
		err = do()
	}
	if err != nil {
		return 0, err
	}
	after, err := p.touch()
	return after - before - 1, err
}

func pingAndTouch(p *Peer) error {
	if p.Generation() < 6 {
		return nil // It has neither.
	}
	const pings = 20
	grown, err := p.moreBy(func() error {
		for range pings {
			if err := p.alive(); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && grown != 0 {
		err = fmt.Errorf("%d pings counted %d times", pings, grown)
	}
	return err
}

func whatCounts(p *Peer) error {
	if p.Generation() < 6 {
		return nil // It says nothing of it.
	}
	for _, tt := range []struct {
		name string
		do   func() error
		more uint64
	}{
		{"nothing", func() error { return nil }, 0},
		{"a touch", func() error { _, err := p.touch(); return err }, 1},
		{"a command", func() error { return errors.Join(p.Send(41, &wire.ExecRequest{Cmd: "true"}), p.echoed(41, "")) }, 3},
		{"a signal for nobody", func() error { return p.Send(42, &wire.ExecSignal{Signal: 9}) }, 1},
		{"a file operation", func() error { _, err := p.File(&wire.OpStat{Path: "/"}); return err }, 2},
		{"wrong flags", func() error {
			return errors.Join(p.raw(43, 1, 7, "core.ping", "\xa0"), p.refused(43, wire.ErrorInvalidFlags))
		}, 0},
		{"the time", func() error { return p.Control(&wire.ClockSync{UnixTimeNanos: uint64(time.Now().UnixNano())}) }, 0},
	} {
		grown, err := p.moreBy(tt.do)
		if err == nil && grown != tt.more {
			err = fmt.Errorf("counted %d times, want %d", grown, tt.more)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", tt.name, err)
		}
	}
	return nil
}

// raw sends a frame of any type, flags, generation and payload on session n.
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

// refused hears a core.error of a kind on session n.
func (p *Peer) refused(n uint32, kind wire.ErrorKind) error { return p.refusedOn(p.ID(n), kind, "") }

// refusedOn hears a core.error on an id, that names a type if one is given.
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

// silent is an error if session n was answered, when all that was sent has been read.
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
		func() error { return p.silent(50) },
	)
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

// oldClients send what their generation has no answer to: it is dropped.
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

// duplicateID refuses the second request and leaves the first as it was.
func duplicateID(p *Peer) error {
	return first(
		func() error { return p.Send(56, Shell("read line; echo $line; exit 7")) },
		func() error { _, err := p.Hear(56); return err },
		func() error { return p.Send(56, Shell("echo second")) },
		func() error {
			r, err := p.Hear(56)
			if m, ok := r.Message.(*wire.ExecFailed); err == nil && (!ok || m.Kind != wire.FailureOther) {
				err = fmt.Errorf("the second is answered with %s", r.Type)
			}
			return err
		},
		func() error { return p.Send(56, &wire.ExecStdin{Data: []byte("first\n")}) },
		func() error {
			r, err := p.Collect(56)
			if err == nil && (string(r.Stdout) != "first\n" || r.Code != 7) {
				err = fmt.Errorf("the first says %q and ends with %d", r.Stdout, r.Code)
			}
			return err
		},
	)
}

// strangeSignals do nothing: 0, negative ones, and the real-time signals, which a
// kernel would deliver.
func strangeSignals(p *Peer) error {
	if err := p.Send(57, Shell("echo $$; read line; echo alive")); err != nil {
		return err
	}
	for range 2 { // Started, and its first words.
		if _, err := p.Hear(57); err != nil {
			return err
		}
	}
	for _, number := range []int32{0, -1, -9, 32, 34, 64, 65, 1 << 30} {
		if err := p.Send(57, &wire.ExecSignal{Signal: number}); err != nil {
			return err
		}
	}
	return errors.Join(p.Send(57, &wire.ExecStdin{Data: []byte("\n")}), p.echoed(57, "alive\n"))
}
