package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/internal/vmm"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
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
	windows sync.Once
	loops   sync.WaitGroup

	closing sync.Once
	closed  error
}

// Timings say when a machine got where, counted from its start on the host.
type Timings struct {
	Resolved time.Duration // The guest's first word: its root is final.
	Ready    time.Duration // It serves.
	Guest    wire.Ready    // What the guest says of itself, in its own clock.
}

// Start starts a machine and waits until it serves. When it returns an error
// nothing of the machine is left; a *BootError says how far it came.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	l, cfg, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	vm, err := vmm.Start(ctx, l.machine, vmm.Options{
		Console: cfg.Console, ConsoleFile: cfg.ConsoleFile, PortSocket: cfg.PortSocket, Sharing: l.sharing, Taps: cfg.tapFiles(),
	})
	if err != nil {
		return nil, errors.Join(err, l.remove())
	}
	m := &Machine{vm: vm, layout: l}
	if err := m.boot(ctx, cfg, start); err != nil {
		failed := m.bootError(ctx, err)
		m.vm.Kill()
		m.disconnect()
		if cfg.Keep {
			failed.Kept = l.dir
			return nil, failed
		}
		return nil, errors.Join(failed, l.remove())
	}
	return m, nil
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

// Command returns lines for sh that repeat the machine by hand.
func (m *Machine) Command() string { return m.vm.Command() }

// Pause stops the machine's processors until Resume.
func (m *Machine) Pause(ctx context.Context) error { return m.vm.Pause(ctx) }

// Resume lets a paused machine go on.
func (m *Machine) Resume(ctx context.Context) error { return m.vm.Resume(ctx) }

// Done is closed when the machine has ended.
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
		m.vm.Kill()
		m.closed = m.end()
	})
	return m.closed
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
		m.vm.Kill()
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
	if cfg.Port != nil {
		port = cfg.Port(port)
	}
	h := &handshake{port: port, frames: frame.NewReader(port), machine: m, start: start}
	second := m.vm.Records()
	if second != nil {
		h.second = answerSecond(second)
	}
	// The end of ctx or of the machine ends every wait for the ports.
	stop := context.AfterFunc(ctx, func() {
		_ = port.SetDeadline(time.Now())
		if second != nil {
			_ = second.SetDeadline(time.Now())
		}
	})
	defer stop()
	if err := h.run(cfg); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return m.serve(cfg, h)
}

// serve makes the clients' side of the port.
func (m *Machine) serve(cfg Config, h *handshake) error {
	link := &link{Conn: h.port, first: h.frames.Buffered()}
	tell := func(now time.Time) error { return m.client.SyncClock(context.Background(), now) }
	if cfg.Socket == "" && h.records == nil {
		m.client = client.New(link, m.timings.Guest, h.generation, client.IDs{})
	} else {
		if err := m.share(cfg, link, h); err != nil {
			return err
		}
		tell = m.tellTime
	}
	m.loops.Go(func() { keepTime(m.vm.Done(), tell) })
	return nil
}

// link is the port behind the handshake: what the handshake has read too much
// comes first.
type link struct {
	net.Conn
	first []byte
}

func (l *link) Read(p []byte) (int, error) {
	if len(l.first) > 0 {
		n := copy(p, l.first)
		l.first = l.first[n:]
		return n, nil
	}
	return l.Conn.Read(p)
}

// A handshake is the host's side of the boot (protocol sections 6 and 7).
type handshake struct {
	port       net.Conn
	frames     *frame.Reader
	machine    *Machine
	start      time.Time
	speaks     wire.Generation // Ours; 0 is the newest.
	generation wire.Generation // The agent's.
	ready      []byte          // The frame.
	second     *secondPort     // nil if the machine has one port.
	records    net.Conn        // The second port; nil where it is not used.
}

func (h *handshake) run(cfg Config) error {
	if cfg.Configuration == ByBootstrap {
		h.speaks = cmp.Or(cfg.Generation, wire.Newest)
		if err := h.send(cfg.bootstrap()); err != nil {
			return err
		}
	}
	if _, err := expect[*wire.InitResolved](h); err != nil {
		return err
	}
	h.machine.timings.Resolved = time.Since(h.start)
	if err := h.send(&wire.InitAck{}); err != nil {
		return err
	}
	ready, err := expect[*wire.Ready](h)
	if err != nil {
		return err
	}
	h.machine.timings.Ready = time.Since(h.start)
	h.machine.timings.Guest = *ready
	return h.settleSecond(ready, cfg.Log)
}

func (h *handshake) send(m wire.Message) error {
	b, err := wire.AppendFrame(nil, cmp.Or(h.speaks, wire.Newest), 0, m)
	if err != nil {
		return err
	}
	if _, err := h.port.Write(b); err != nil {
		return fmt.Errorf("send %s: %w", m.Type(), err)
	}
	return nil
}

// expect reads one frame that must hold an M.
func expect[M wire.Message](h *handshake) (m M, err error) {
	f, whole, err := h.frames.NextWhole()
	if errors.Is(err, io.EOF) {
		err = errors.New("the machine ended")
	}
	if err != nil {
		return m, fmt.Errorf("waiting for %s: %w", m.Type(), err)
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return m, fmt.Errorf("waiting for %s: %w", m.Type(), err)
	}
	got, err := wire.Decode(e)
	if err != nil {
		return m, fmt.Errorf("waiting for %s: %w", m.Type(), err)
	}
	if told, ok := got.(*wire.ProtocolError); ok {
		return m, fmt.Errorf("waiting for %s: %w", m.Type(), &toldError{told.Message, told.InitFailure})
	}
	h.generation, h.ready = e.Generation, whole
	m, ok := got.(M)
	if !ok {
		return m, fmt.Errorf("waiting for %s: got %s", m.Type(), e.Type)
	}
	return m, nil
}
