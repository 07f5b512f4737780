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
	"github.com/agentd-go/agentd/wire/bootenv"
)

const (
	// bootDeadline is for hardware virtualization; a machine is ready in under a
	// second. Software emulation is some ten times slower, and shares its host
	// with other machines: it gets what reference hosts of generation 7 give.
	bootDeadline = 60 * time.Second
	slowDeadline = 180 * time.Second

	// shutdownDeadline is how long a machine may take to end after core.shutdown:
	// what reference hosts of generation 4 give. Beside another init an agent needs
	// up to 7.7 s of it by its own clock, which stands still for none of the time
	// that an emulated processor waits for the host's: such a machine gets more.
	shutdownDeadline     = 8 * time.Second
	slowShutdownDeadline = 16 * time.Second
)

// A Machine is a running machine with our client in it.
type Machine struct {
	vm      *vmm.VM
	layout  *layout
	client  *client.Client
	relay   *relay.Relay // nil if nobody else may connect.
	timings Timings
	killed  atomic.Bool // We have ended it by force.
	warm    bool        // It has started from a template.
	spoke   atomic.Bool // The guest has said a word.
	windows sync.Once
	loops   sync.WaitGroup

	closing sync.Once
	closed  error
}

// Timings say when a machine got where, counted from its start on the host. What the
// guest says of itself, in its own clock, is [client.Client.Agent].
type Timings struct {
	Resolved time.Duration // The guest's first word: its root is final.
	Ready    time.Duration // It serves.
}

// Start starts a machine and waits until it serves. When it returns an error
// nothing of the machine is left; a *BootError says how far it came.
//
// A machine that came up with a dead clock (boot section 3), which happens to emulated
// ones on a very busy host, is started once more, and Log hears of it; with Keep it
// is not.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m, err := startOnce(ctx, cfg)
	if failed, ok := errors.AsType[*BootError](err); !ok || !failed.deadClock() || cfg.Keep || cfg.hooks.Port != nil {
		return m, err
	}
	if cfg.Log != nil {
		cfg.Log(bootenv.DeadClock + "; it is started once more")
	}
	return startOnce(ctx, cfg)
}

func startOnce(ctx context.Context, cfg Config) (*Machine, error) {
	l, cfg, err := prepare(ctx, cfg)
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
	if err := MakeDir(ctx, m.client, cfg.Dir); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

// begin starts the machine from a template, or boots it where there is none or that was
// no good.
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

// attempt starts the machine, from a template if there is one, and leads it to
// core.ready. A failure that is the template's fault is a faultError.
func (l *layout) attempt(ctx context.Context, cfg Config, from *snapshot.State) (*Machine, error) {
	options := vmm.Options{
		Console: cfg.Console, ConsoleFile: cfg.ConsoleFile, PortSocket: cfg.PortSocket, Sharing: l.sharing, Taps: cfg.tapFiles(),
	}
	if from != nil {
		options.From = &from.Files
	}
	start := time.Now()
	vm, err := vmm.Start(ctx, l.machine, options)
	if err != nil {
		return nil, blame(from, err)
	}
	m := &Machine{vm: vm, layout: l, warm: from != nil}
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
		err = m.bootError(ctx, err)
	}
	m.vm.Kill()
	m.disconnect()
	return nil, err
}

// Client returns the client of the machine's agent. It ends with the machine. A
// machine without a socket ends with it too; on one with a socket, or with a second
// port, it is the relay's first client, with slot 0.
func (m *Machine) Client() *client.Client { return m.client }

// Note says in a line for the user what executes the machine, and why.
func (m *Machine) Note() string { return m.layout.note }

// Unshared says why this host shares no directories with the machine, whose root
// is a disk then; nil if it does, as where nothing stands in its way.
func (m *Machine) Unshared() error { return m.layout.unshared }

// Timings returns when the machine got where.
func (m *Machine) Timings() Timings { return m.timings }

// Console returns the last of what the guest has printed, at most 64 KiB.
func (m *Machine) Console() []byte { return m.vm.Console() }

// RepeatScript returns lines for sh that repeat the machine by hand.
func (m *Machine) RepeatScript() string { return m.vm.Command() }

// Pause stops the machine's processors until Resume.
func (m *Machine) Pause(ctx context.Context) error { return m.vm.Pause(ctx) }

// Resume lets a paused machine go on.
func (m *Machine) Resume(ctx context.Context) error { return m.vm.Resume(ctx) }

// Done is closed when the machine has ended; [Machine.Wait] says how.
func (m *Machine) Done() <-chan struct{} { return m.vm.Done() }

// Shutdown asks the machine to end, its commands first and with its files
// written, and waits until it has; ctx bounds that, 8 s at most (16 s in software
// emulation). A machine that has not ended then is killed, and that is the error.
func (m *Machine) Shutdown(ctx context.Context) error {
	m.closing.Do(func() { m.closed = m.shutdown(ctx) })
	return m.closed
}

// Close is Shutdown without a bound of the caller's.
func (m *Machine) Close() error { return m.Shutdown(context.Background()) }

// Kill ends the machine as a power cut would.
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
	case <-m.vm.Done(): // By itself, or another client's word.
		return errors.Join(m.vm.Wait(ctx), m.end())
	default:
	}
	err := m.client.Shutdown(ctx)
	if _, ended := errors.AsType[*client.LinkError](err); err == nil || ended {
		err = m.vm.Wait(ctx) // A link ends before its machine, whose word that is too.
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

// end gives back what the machine held on the host.
func (m *Machine) end() error {
	m.disconnect()
	return m.layout.remove()
}

// disconnect ends the clients; the link has ended before them.
func (m *Machine) disconnect() {
	if m.client != nil {
		_ = m.client.Close()
	}
	if m.relay != nil {
		_ = m.relay.Close()
	}
	_ = m.vm.Port().Close() // Where it came to no client; twice does no harm.
	m.loops.Wait()
}

// boot leads the guest to core.ready.
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

// serve makes the clients' side of the port.
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
	m.loops.Go(func() { keepTime(m.vm.Done(), tell) })
	return nil
}

// A handshake is what a machine's boot is led by, and what came of it.
type handshake struct {
	*client.Greeting
	machine *Machine
	leased  bool        // We speak a generation that has leases.
	second  *secondPort // nil if the machine has one port.
	records net.Conn    // The second port; nil where it is not used.
}

// run leads the agent to core.ready (protocol sections 6 and 7).
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
