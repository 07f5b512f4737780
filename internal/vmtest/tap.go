package vmtest

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/contract"
	"github.com/agentd-go/agentd/internal/hooks"
	"github.com/agentd-go/agentd/sandbox"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A Tap stands between a machine's port and its client, and lets a test speak raw
// frames beside the client: by Link, on ids of other slots than the client's, or
// on ids of the client's that it has not used.
type Tap struct {
	*contract.Link

	// WithAck, if set before the start, goes out in one write with core.init.ack.
	WithAck []byte
	// Quiet, if set before the start, is how long the host's first word after
	// core.ready waits; see Early.
	Quiet time.Duration
	// Alone, if set before the start, gives the Link the whole port after core.ready. What
	// the machine's client says is dropped from then on, but for core.shutdown. The credit
	// for input then comes back as hosts of the published agents expect it.
	Alone bool

	port    net.Conn
	writing sync.Mutex

	mu    sync.Mutex
	more  sync.Cond
	held  bool
	ready bool // core.ready has come,
	heard int  // and so many frames before the host's first word after it,
	spoke bool // which has left.
}

// NewTap returns a Tap for one machine; [Tap.Port] goes into its Config.
func NewTap() *Tap {
	p := &Tap{}
	p.more.L = &p.mu
	p.Link = contract.NewLink(func(b []byte) error {
		_, err := p.port.Write(b)
		return err
	}, &p.writing)
	return p
}

// Port is for [sandbox.Config.Port].
func (p *Tap) Port(port net.Conn) net.Conn {
	p.port = port
	ours, theirs := net.Pipe()
	go p.read(ours)
	go p.forward(ours)
	return theirs
}

// Hold stops the reading from the port after at most one more frame, as a host
// does that is busy, or lets it go on.
func (p *Tap) Hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	p.more.Broadcast()
}

// Early waits for the client's first word after core.ready, which is the time, and
// returns how many frames came between the two.
func (p *Tap) Early() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.spoke {
		p.more.Wait()
	}
	return p.heard
}

// read gives each of the guest's frames to its reader, until the port ends.
func (p *Tap) read(client net.Conn) {
	defer func() { _ = client.Close() }() // The client reads the end.
	frames := frame.NewReader(p.port)
	for {
		p.wait()
		f, err := frames.Next()
		if err != nil {
			p.End(err)
			return
		}
		alone := p.Alone && p.isReady()
		p.note(f)
		if alone || p.Claims(f.ID) {
			p.Deliver(f)
			continue
		}
		b, err := frame.Append(nil, f)
		if err == nil {
			_, err = client.Write(b)
		}
		if err != nil {
			p.End(err) // The client has closed its end.
			_ = p.port.Close()
			return
		}
	}
}

func (p *Tap) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held {
		p.more.Wait()
	}
}

// exact is a configuration without the project's own rules on credit: the test's host is
// like those of the published agents.
func exact(e wire.Envelope) ([]byte, error) {
	m, err := wire.Decode(e)
	if err != nil {
		return nil, err
	}
	b, ok := m.(*wire.Bootstrap)
	if !ok {
		return nil, errors.New("no configuration")
	}
	b.StoredCredit = false
	return wire.AppendFrame(nil, e.Generation, 0, b)
}

func (p *Tap) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready
}

// note watches the boot.
func (p *Tap) note(f frame.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.spoke:
	case p.ready:
		p.heard++
	default:
		e, err := wire.DecodeEnvelope(f.Body)
		p.ready = err == nil && e.Type == wire.TypeReady
	}
}

// forward gives the client's frames to the guest, each in one write, until the
// client closes its end.
func (p *Tap) forward(client net.Conn) {
	frames := frame.NewReader(client)
	for {
		f, err := frames.Next()
		if err != nil {
			_ = p.port.Close() // As the client did.
			return
		}
		if err := p.pass(f); err != nil {
			_ = client.Close()
			return
		}
	}
}

func (p *Tap) pass(f frame.Frame) error {
	b, err := frame.Append(nil, f)
	if err != nil {
		return err
	}
	e, _ := wire.DecodeEnvelope(f.Body) // The client's own frame.
	if p.Alone && e.Type == wire.TypeBootstrap {
		if b, err = exact(e); err != nil {
			return err
		}
	}
	if p.Alone && p.isReady() && e.Type != wire.TypeShutdown {
		return nil
	}
	if e.Type == wire.TypeInitAck {
		b = append(b, p.WithAck...)
	}
	p.hush()
	p.writing.Lock()
	defer p.writing.Unlock()
	_, err = p.port.Write(b)
	return err
}

// hush lets the first word after core.ready wait: what the guest says meanwhile
// it should not.
func (p *Tap) hush() {
	p.mu.Lock()
	first := p.ready && !p.spoke
	p.mu.Unlock()
	if !first {
		return
	}
	timer := time.NewTimer(p.Quiet)
	defer timer.Stop()
	<-timer.C
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoke = true
	p.more.Broadcast()
}

// StartTapped is [Start] with a Tap, which may be nil for a new one.
func StartTapped(t *testing.T, cfg sandbox.Config, p *Tap) (*Machine, *Tap) {
	t.Helper()
	if p == nil {
		p = NewTap()
	}
	hooks.Of(&cfg).Port = p.Port
	m := Start(t, cfg)
	t.Cleanup(func() {
		p.Hold(false) // The machine's last words want to be read.
		if err := p.Faults(); err != nil && !t.Failed() {
			t.Error(errors.Join(errors.New("frames that break the protocol's rules"), err))
		}
	})
	return m, p
}
