package contract

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// departures check a client's sessions after it has left (protocol section 5.4).
//
//holds:wire 9: handles of a gone client are closed within 1 s
func departures() []Behaviour {
	return []Behaviour{
		{Name: "departure: nothing is said any more", Check: silenceAfterDeparture},
		{Name: "departure: handles and streams are gone", Check: handlesGone},
		{Name: "departure: commands go on", Check: commandsGoOn},
	}
}

// silenceAfterDeparture lets a client leave while its command prints all the time.
func silenceAfterDeparture(p *Peer) error {
	q := p.Other()
	start, end := q.All()
	return first(
		func() error { return q.Send(70, Shell("echo $$ >/h/speaker; while echo x; do :; done")) },
		func() error { _, err := q.Hear(70); return err },
		func() error { _, err := q.Hear(70); return err },
		q.Leave,
		p.alive, // What the agent sent before it heard has come by now.
		func() error { q.Drop(start, end); return nil },
		func() error { _, err := p.Say("sleep 0.3; kill -9 $(cat /h/speaker); sleep 0.2"); return err },
		func() error {
			if n := q.Kept(start, end); n > 0 {
				return fmt.Errorf("%d frames for a client that has gone", n)
			}
			return nil
		},
	)
}

// handlesGone opens all kinds, leaves, and looks at the agent's descriptors.
func handlesGone(p *Peer) error {
	q := p.Other()
	const count = "ls /proc/1/fd | wc -l"
	before, err := p.Say(count)
	if err != nil {
		return err
	}
	for range 20 {
		if _, err := q.OpenFile("/h/f", wire.OpenOptions{Read: true}); err != nil {
			return err
		}
	}
	h, err := q.OpenFile("/h/gone", wire.OpenOptions{Write: true, Create: true})
	if err != nil {
		return err
	}
	err = first(
		func() error {
			return q.Send(71, &wire.FSRequest{Op: &wire.OpWrite{Handle: h}}, &wire.FSData{Data: []byte("x")})
		},
		func() error { return q.Send(72, &wire.TCPConnect{Host: "127.0.0.1", Port: DeafPort}) },
		func() error { return hears(wire.TypeTCPConnected)(q, 72) },
		q.Leave,
		p.alive,
	)
	if err != nil {
		return err
	}
	// A second is what the protocol allows; what others had open may close as well.
	got, err := p.Say("i=0; while [ $(" + count + ") -gt " + strings.TrimSpace(before) + ` ]; do i=$((i+1)); [ $i -lt 20 ] || break; sleep 0.05; done; [ $i -lt 20 ] && echo back`)
	if err != nil {
		return err
	}
	return errors.Join(same("descriptors", got, "back\n"), same("handle", must(p.File(&wire.OpFStat{Handle: h})), fmt.Sprintf("fstat: invalid handle: %d", h)))
}

func must(got string, err error) string {
	if err != nil {
		return err.Error()
	}
	return got
}

// commandsGoOn: hosts up to generation 7 end them by a signal of their own.
func commandsGoOn(p *Peer) error {
	q := p.Other()
	return first(
		func() error {
			return q.Send(73, Shell("echo $$; while ! test -e /h/enough; do sleep 0.05; done; echo on >/h/on"))
		},
		func() error { _, err := q.Hear(73); return err },
		q.Leave,
		p.alive,
		func() error {
			got, err := p.Say("touch /h/enough; i=0; while ! test -e /h/on && [ $i -lt 100 ]; do i=$((i+1)); sleep 0.05; done; cat /h/on")
			if err != nil {
				return err
			}
			return same("the command's last words", got, "on\n")
		},
		func() error { q.Drop(q.All()); return nil },
	)
}
