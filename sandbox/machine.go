package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/internal/snapshot"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
)

const (
	// bootDeadline is the deadline with hardware virtualization, where a machine is
	// ready in under a second. Software emulation is some ten times slower and may
	// share the host with other machines: it gets the deadline of reference hosts of
	// generation 7.
	bootDeadline = 60 * time.Second
	slowDeadline = 180 * time.Second

	// shutdownDeadline is how long a machine may take to end after core.shutdown, as
	// with reference hosts of generation 4. With another init the agent needs up to 7.7
	// s by its own clock. That clock goes on while an emulated processor waits for one
	// of the host's, so an emulated machine gets more time.
	shutdownDeadline     = 8 * time.Second
	slowShutdownDeadline = 16 * time.Second
)

// A Machine is a running machine with its client.
type Machine struct {
	vm      *vmm.VM
	layout  *layout
	client  *client.Client
	relay   *relay.Relay // nil if no other client may connect.
	timings Timings
	killed  atomic.Bool // It was ended by force.
	warm    bool        // It has started from a template.
	spoke   atomic.Bool // The guest has sent its first message.
	saving  saving
	survive string // See Config.Survive.
	killing sync.Once
	loops   sync.WaitGroup

	closing sync.Once
	closed  error
}

// Timings are the times at which a machine reached its phases, counted from its start
// on the host. [client.Client.Agent] has the guest's own times, by its own clock.
type Timings struct {
	Resolved time.Duration // The guest's first message: its root is final.
	Ready    time.Duration // It serves clients.
}

// Start starts a machine and waits until it serves. After an error nothing of the
// machine is left. A *BootError describes a failed boot.
//
// A machine that came up with a dead clock (boot section 3), which happens to emulated
// ones on a very busy host, is started once more, and Log hears of it; with Keep it
// is not. So is one whose kernel ran code that it had just replaced, which happens to
// emulated ones with several processors.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m, err := startOnce(ctx, cfg)
	failed, ok := errors.AsType[*BootError](err)
	if !ok || failed.passing() == "" || cfg.Keep || cfg.hooks.Port != nil {
		return m, err
	}
	if cfg.Log != nil {
		cfg.Log(failed.passing() + "; it is started once more")
	}
	return startOnce(ctx, cfg)
}

func startOnce(ctx context.Context, given Config) (*Machine, error) {
	l, cfg, err := prepare(ctx, given)
	if err != nil {
		return nil, err
	}
	m, err := l.begin(ctx, cfg)
	if failed, ok := errors.AsType[*BootError](err); ok && cfg.Keep {
		failed.Kept = l.dir
		return nil, failed
	}
	if err != nil {
		return nil, errors.Join(err, l.remove())
	}
	m.saving.config = given
	if err := MakeDir(ctx, m.client, cfg.Dir); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	if err := m.bequeath(given); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

// begin starts the machine from a template. It boots the machine if there is no
// template or if the template fails.
func (l *layout) begin(ctx context.Context, cfg Config) (*Machine, error) {
	if s := l.template(ctx); s != nil {
		m, err := l.attempt(ctx, cfg, s)
		if closed := s.Close(); err == nil {
			return m, closed
		}
		fault, blamed := errors.AsType[*faultError](err)
		unfit, isUnfit := errors.AsType[*vmm.UnfitError](err)
		switch {
		case blamed:
			l.refuse(s, fault.Err)
		case isUnfit:
			l.cold = &TemplateError{unfit}
		default:
			return nil, err
		}
	}
	return l.attempt(ctx, cfg, nil)
}

// attempt starts the machine, from the template if from is not nil, and waits for
// core.ready. If the template is the cause of a failure, the error is a faultError.
func (l *layout) attempt(ctx context.Context, cfg Config, from *snapshot.State) (*Machine, error) {
	options := vmm.Options{
		Console: cfg.Console, ConsoleFile: cfg.ConsoleFile, PortSocket: cfg.PortSocket, Lasting: cfg.Survive, Sharing: l.sharing, Taps: cfg.tapFiles(),
	}
	if from != nil {
		options.From = &from.Files
	}
	start := time.Now()
	vm, err := vmm.Start(ctx, l.machine, options)
	if err != nil {
		return nil, blame(from, err)
	}
	m := &Machine{vm: vm, layout: l, warm: from != nil, survive: cfg.Survive}
	err = m.boot(ctx, cfg, start)
	if err == nil {
		return m, nil
	}
	switch {
	case !m.warm || ctx.Err() != nil:
		err = m.bootError(ctx, err)
	case !m.spoke.Load():
		err = &faultError{fmt.Errorf("the machine from it has not said a word: %w", err)}
	case errors.Is(err, errNotFresh):
		err = &faultError{err}
	default:
		err = blameBoot(m.bootError(ctx, err))
	}
	m.vm.Kill()
	m.disconnect()
	return nil, err
}

// Client returns the client of the machine's agent. It ends with the machine. Without a
// socket the machine also ends with the client. With a socket or a second port, it is
// the relay's first client, with slot 0.
func (m *Machine) Client() *client.Client { return m.client }

// Note returns a line for the user: which accelerator executes the machine, and why.
func (m *Machine) Note() string { return m.layout.note }

// Unshared says why this host cannot share directories with the machine; its root is a
// disk then. It returns nil if the host can.
func (m *Machine) Unshared() error { return m.layout.unshared }

// Timings returns the times of the machine's start.
func (m *Machine) Timings() Timings { return m.timings }

// Console returns the end of the guest's console output, at most 64 KiB.
func (m *Machine) Console() []byte { return m.vm.Console() }

// RepeatScript returns shell lines that repeat the machine by hand. They boot it, also if it
// started from a template; its root is on a disk then, which core.bootstrap has to name.
func (m *Machine) RepeatScript() string { return m.vm.Command() }

// Done is closed when the machine has ended; [Machine.Wait] says how.
func (m *Machine) Done() <-chan struct{} { return m.vm.Done() }

// Shutdown asks the machine to end its commands, write its files and end, and waits for
// that. ctx bounds the wait, and so do 8 s (16 s in software emulation). If the machine
// has not ended by then, Shutdown kills it and returns an error.
func (m *Machine) Shutdown(ctx context.Context) error {
	m.closing.Do(func() { m.closed = m.shutdown(ctx) })
	return m.closed
}

// Close is Shutdown without a context.
func (m *Machine) Close() error { return m.Shutdown(context.Background()) }

// Kill ends the machine like a power cut.
func (m *Machine) Kill() error {
	m.closing.Do(func() {
		m.kill()
		m.closed = m.end()
	})
	return m.closed
}

// kill ends the machine by force, unless it has ended.
func (m *Machine) kill() {
	select {
	case <-m.vm.Done():
	default:
		m.killed.Store(true)
		m.vm.Kill()
	}
}

func (m *Machine) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.endDeadline())
	defer cancel()
	select {
	case <-m.vm.Done(): // It has ended by itself, or by another client's request.
		return errors.Join(m.vm.Wait(ctx), m.end())
	default:
	}
	err := m.client.Shutdown(ctx)
	if _, ended := errors.AsType[*client.LinkError](err); err == nil || ended {
		err = m.vm.Wait(ctx) // A closed link also means that the machine is ending: wait for it.
	}
	select {
	case <-m.vm.Done():
	default:
		err = fmt.Errorf("the machine did not end by itself: %w", err)
		m.kill()
	}
	return errors.Join(err, m.end())
}

// endDeadline is how long the machine may take to end when it is asked to.
func (m *Machine) endDeadline() time.Duration {
	if m.Emulated() {
		return slowShutdownDeadline
	}
	return shutdownDeadline
}

// end releases the machine's resources on the host.
func (m *Machine) end() error {
	m.disconnect()
	return errors.Join(m.disinherit(), m.layout.remove())
}

// disconnect ends the clients, after the end of the link.
func (m *Machine) disconnect() {
	if m.client != nil {
		_ = m.client.Close()
	}
	if m.relay != nil {
		_ = m.relay.Close()
	}
	_ = m.vm.Port().Close() // For a start that failed before there was a client; a second close is harmless.
	m.loops.Wait()
}

// boot does the handshake up to core.ready.
func (m *Machine) boot(ctx context.Context, cfg Config, start time.Time) error {
	deadline := bootDeadline
	if m.Emulated() {
		deadline = slowDeadline
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	port := m.vm.Port()
	if cfg.hooks.Port != nil {
		port = cfg.hooks.Port(port)
	}
	h := &handshake{machine: m}
	second := m.vm.Records()
	if second != nil {
		h.second = answerSecond(second)
	}
	stop := context.AfterFunc(ctx, func() {
		if second != nil {
			_ = second.SetDeadline(time.Now())
		}
	})
	defer stop()
	if err := h.run(ctx, cfg, port, start); err != nil {
		return err
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return m.serve(cfg, h)
}

// serve sets up the client, and the relay if it is needed.
func (m *Machine) serve(cfg Config, h *handshake) error {
	tell := func(now time.Time) error { return m.client.SyncClock(context.Background(), now) }
	if cfg.Socket == "" && h.records == nil {
		m.client = client.New(h.Greeting, client.IDs{})
	} else {
		if err := m.share(cfg, h); err != nil {
			return err
		}
		tell = m.tellTime
	}
	m.loops.Go(func() { keepTime(m.vm.Done(), m.starved, tell) })
	return nil
}

// A handshake holds the parameters and the result of a machine's boot handshake.
type handshake struct {
	*client.Greeting
	machine *Machine
	leased  bool        // The host's generation has leases.
	second  *secondPort // nil if the machine has only one port.
	records net.Conn    // The second port; nil if it is not used.
	from    *relay.Cut  // Where the guest was frozen; nil for a guest that has booted.
}

// run does the handshake up to core.ready (protocol sections 6 and 7).
func (h *handshake) run(ctx context.Context, cfg Config, port net.Conn, start time.Time) (err error) {
	m := h.machine
	heard := func() { m.spoke.Store(true) }
	says := client.Handshake{Resolved: func(wire.User) {
		heard()
		m.timings.Resolved = time.Since(start)
	}}
	if cfg.Configuration == ByBootstrap {
		says.Bootstrap, says.Generation = cfg.bootstrap(), cmp.Or(wire.Generation(cfg.Generation), wire.Newest)
		h.leased = says.Generation >= wire.BulkSince
	}
	if m.warm {
		renewed := *says.Bootstrap
		renewed.Fresh = fresh()
		renewed.Fresh.Disks = m.layout.newDisks()
		says.Bootstrap = &renewed
		var done func()
		ctx, done = m.listen(ctx)
		defer done()
	}
	if h.Greeting, err = says.Run(ctx, port); err != nil {
		if _, refused := errors.AsType[*client.InitError](err); refused {
			heard()
		}
		return err
	}
	if m.warm && !h.Ready.Fresh {
		return errNotFresh
	}
	m.timings.Ready = time.Since(start)
	return h.settleSecond(&h.Ready, cfg.Log)
}
