package contract

import (
	"errors"
	"fmt"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// core checks frames, ids, and messages about the whole machine (protocol sections 2 to
// 7).
//
//holds:wire 1: any split of the input, every byte alone
//holds:wire 2: maximal frames back to back
//holds:wire 3: every accepted form is accepted
//holds:wire 3: bad payload: one `core.error`, others undisturbed; dropped below generation 5
//holds:wire 3: unknown type, bad envelope: `core.error`, and on
//holds:wire 5: ids 1, 0x01FFFFFE, 0x02000000, 0xFE000000; handles of one slot refused to another
//holds:wire 5: never an id of nobody but in `core.error`
//holds:wire 6: a host's `v` of 0, 1, 255 is like any other
//holds:wire 7: pong and touched on the same id; ping counts nothing, touch once
//holds:wire 7: wrong flags: one `core.error`, nothing else
//holds:wire 8: signal to the group; −1 for death by signal; 0, negative and above 31 do nothing
//holds:wire 8: a second request on a running id is refused
//holds:wire 19: golden frames; the recorded request is answered
func core() []Behaviour {
	return []Behaviour{
		{Name: "core: every byte alone", Check: everyByteAlone},
		{Name: "core: many frames in one write", Check: manyFrames},
		{Name: "core: maximal frames back to back", Check: maximalFrames, Own: "a frame with more after it exceeds its buffer, which ends it"},
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

// echoed is the expected output of a command.
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

// more returns how much the activity counter grew during an action, without the touch.
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

//holds:boot 25: pings are no activity, a touch is one, a quiet command counts
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
