package contract

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// A step is one action of the host in a conversation over a connection.
type step = func(*Peer, uint32) error

// A talk is a behaviour on one connection: the host's actions, and the bytes that it
// must receive.
type talk struct {
	name  string
	host  string
	port  uint16
	want  string
	steps []step
}

// check talks on session n.
func (k talk) check(p *Peer, n uint32) error {
	if err := p.Send(n, &wire.TCPConnect{Host: k.host, Port: k.port}); err != nil {
		return err
	}
	for _, s := range k.steps {
		if err := s(p, n); err != nil {
			return errors.Join(err, p.Send(n, &wire.TCPClose{}))
		}
	}
	got, err := p.Said(n, k.want)
	if err != nil {
		return errors.Join(fmt.Errorf("%w, after %.200q", err, got), p.Send(n, &wire.TCPClose{}))
	}
	return same("the conversation", got, k.want)
}

func says(text string) step {
	return func(p *Peer, n uint32) error { return p.Send(n, &wire.TCPData{Data: []byte(text)}) }
}

func ends(p *Peer, n uint32) error { return p.Send(n, &wire.TCPEOF{}) }

// hears waits for a frame of a type and drops the frames before it.
func hears(t wire.Type) step {
	return func(p *Peer, n uint32) error {
		for {
			r, err := p.Hear(n)
			if err != nil || r.Type == t {
				return err
			}
		}
	}
}

const (
	four = "127.0.0.1"
	six  = "::1"
)

// talks check section 10.
//
//holds:wire 10: `closed` after both ends, nothing after; descriptors back
func talks() []talk {
	const refused = "failed connect %s:%d: Connection refused (os error 111)"
	const lookup = "failed connect %s:80: failed to lookup address information: %s"
	hi, long := []step{says(""), says("hi"), ends}, strings.Repeat("n", 255)
	return []talk{
		{"IPv4", four, EchoPort, "connected, data hi, eof", hi},
		{"a name", "localhost", EchoPort, "connected, data hi, eof", hi},
		{"IPv6", six, EchoPort, "connected, data hi, eof", hi},
		{"nobody listens", four, 1, fmt.Sprintf(refused, four, 1), nil},
		{"port 0", four, 0, fmt.Sprintf(refused, four, 0), nil},
		{"nobody listens on IPv6", six, 1, fmt.Sprintf(refused, six, 1), nil},
		{"no route", "192.0.2.1", 80, "failed connect 192.0.2.1:80: Network unreachable (os error 101)", nil},
		{"no name", "", 80, fmt.Sprintf(lookup, "", "Name does not resolve"), nil},
		{"a long name", long, 80, fmt.Sprintf(lookup, long, "Name does not resolve"), nil},
		{"an address that is none", "256.1.1.1", 80, fmt.Sprintf(lookup, "256.1.1.1", "Name does not resolve"), nil},
		{"a name that nobody knows", "no.such.name", 80, fmt.Sprintf(lookup, "no.such.name", "Try again"), nil},
		{"our end first", four, TailPort, "connected, data got all, eof", []step{says("all"), ends}},
		{"closed after both ends", four, EchoPort, "connected, data hi, eof, closed", hi},
		{"their end first", four, ByePort, "closed", []step{hears(wire.TypeTCPEOF), says("heard"), ends}},
		{
			"a peer that breaks", four, BreakPort,
			"connected, failed read TCP stream: Connection reset by peer (os error 104)",
			[]step{says("xy")},
		},
	}
}

// connections check section 10.
//
//holds:wire 10: `closed` after both ends, nothing after; descriptors back
//holds:wire 10: a peer that never reads delays nobody; bounded memory
func connections() (all []Behaviour) {
	const firstSession = 80
	for i, k := range talks() {
		all = append(all, Behaviour{Name: "tcp: " + k.name, Check: func(p *Peer) error { return k.check(p, firstSession+uint32(i)) }})
	}
	all = append(all,
		Behaviour{Name: "tcp: after the end", Check: afterTheEnd},
		Behaviour{Name: "tcp: 4 MiB to a peer that writes first", Check: bothWriteFirst},
		Behaviour{Name: "tcp: a peer that never reads", Check: neverReads},
		Behaviour{Name: "tcp: closed by the host", Check: closedByHost},
	)
	for i := range all {
		all[i] = soon(all[i])
	}
	return all
}

// Said returns, in short form, the frames on a connection's id up to its end, or until
// they are the wanted ones.
func (p *Peer) Said(n uint32, until string) (string, error) {
	var all []string
	var data []byte
	for {
		f, err := p.Hear(n)
		if err != nil {
			return strings.Join(all, ", "), err
		}
		if m, ok := f.Message.(*wire.TCPData); ok {
			if len(m.Data) == 0 || len(m.Data) > 64<<10 {
				return "", fmt.Errorf("a piece of %d bytes", len(m.Data))
			}
			data = append(data, m.Data...)
			continue
		}
		if data != nil {
			all, data = append(all, "data "+string(data)), nil
		}
		if m, ok := f.Message.(*wire.TCPFailed); ok {
			return strings.Join(append(all, "failed "+m.Error), ", "), nil
		}
		all = append(all, strings.TrimPrefix(string(f.Type), "core.tcp."))
		if said := strings.Join(all, ", "); f.Flags != 0 || said == until {
			return said, nil
		}
	}
}

// afterTheEnd: data is answered, an end and a close are not.
func afterTheEnd(p *Peer) error {
	if err := p.Send(61, &wire.TCPData{Data: []byte("late")}); err != nil {
		return err
	}
	got, err := p.Said(61, "")
	if err == nil {
		err = same("late data", got, fmt.Sprintf("failed unknown TCP session: %d", p.ID(61)))
	}
	if err == nil {
		err = p.Send(61, &wire.TCPEOF{}, &wire.TCPClose{})
	}
	if err != nil {
		return err
	}
	return p.silent(61)
}

// firstSize is more than both kernels' buffers of a connection hold.
const firstSize = 4 << 20

// bothWriteFirst: neither side waits for the other.
func bothWriteFirst(p *Peer) error {
	if err := p.Send(62, &wire.TCPConnect{Host: "127.0.0.1", Port: FirstPort}); err != nil {
		return err
	}
	data := make([]byte, firstSize/4)
	for range 4 {
		if err := p.Send(62, &wire.TCPData{Data: data}); err != nil {
			return err
		}
	}
	if err := p.Send(62, &wire.TCPEOF{}); err != nil {
		return err
	}
	want := "connected, data " + strings.Repeat("p", firstSize) + strconv.Itoa(firstSize) + ", eof"
	got, err := p.Said(62, want)
	if err != nil {
		return errors.Join(err, p.Send(62, &wire.TCPClose{}))
	}
	return same("the conversation", got, want)
}

// neverReads floods a peer that does not read. A command of another client and a ping
// are not delayed.
func neverReads(p *Peer) error {
	if err := p.Send(63, &wire.TCPConnect{Host: "127.0.0.1", Port: DeafPort}); err != nil {
		return err
	}
	data := make([]byte, 1<<20)
	for range 16 {
		if err := p.Send(63, &wire.TCPData{Data: data}); err != nil {
			return err
		}
	}
	start := time.Now()
	got, err := p.Other().Say("echo beside")
	if err == nil {
		err = same("a command beside it", got, "beside\n")
	}
	if took := time.Since(start); err == nil && took > promptly {
		err = fmt.Errorf("a command beside it took %v", took)
	}
	err = errors.Join(err, p.Send(63, &wire.TCPClose{}), p.alive())
	p.dropped(63)
	return err
}

// promptly bounds the answer of an agent. An agent that does not wait for a peer
// answers in a fraction of a second, even emulated.
const promptly = 4 * time.Second

// dropped drops the frames of session n.
func (p *Peer) dropped(n uint32) { p.Drop(p.ID(n), p.ID(n)+1) }

// closedByHost: no answer, and the id is free at once.
func closedByHost(p *Peer) error {
	return first(
		func() error { return p.Send(64, &wire.TCPConnect{Host: "127.0.0.1", Port: DeafPort}) },
		func() error { return hears(wire.TypeTCPConnected)(p, 64) },
		func() error { return p.Send(64, &wire.TCPClose{}) },
		func() error { return p.silent(64) },
		func() error { return p.Send(64, &wire.TCPConnect{Host: "127.0.0.1", Port: 1}) },
		func() error {
			got, err := p.Said(64, "")
			if err != nil {
				return err
			}
			return same("the id's next connection", got, "failed connect 127.0.0.1:1: Connection refused (os error 111)")
		},
	)
}
