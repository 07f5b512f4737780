package machines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/agentd-go/agentd/client"
)

const (
	// udpFlows bounds the peers of one port that have a socket in the guest. The agent has
	// 256 for all of its clients.
	udpFlows = 128

	// udpQueue is how many datagrams of one peer wait for the guest; more are lost, as in a
	// router.
	udpQueue = 16

	// udpIdle is how long a peer keeps its socket in the guest without a datagram in either
	// direction, as in container tools.
	udpIdle = 90 * time.Second

	maxDatagram = 65535
)

// An Entrance is the host's side of a port: it listens already.
type Entrance struct {
	port   Port
	stream net.Listener
	packet *net.UDPConn // In place of stream, for UDP.
}

// Open listens at the host's side of a port.
func (p Port) Open(ctx context.Context) (*Entrance, error) {
	var config net.ListenConfig
	e := &Entrance{port: p}
	var err error
	if p.Protocol == udp {
		var c net.PacketConn
		if c, err = config.ListenPacket(ctx, udp, p.Host); err == nil {
			e.packet = c.(*net.UDPConn) //nolint:errcheck,forcetypeassert // What "udp" always gives.
		}
	} else {
		e.stream, err = config.Listen(ctx, "tcp", p.Host)
	}
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", p, err)
	}
	return e, nil
}

// Addr is where it listens.
func (e *Entrance) Addr() net.Addr {
	if e.packet != nil {
		return e.packet.LocalAddr()
	}
	return e.stream.Addr()
}

// Close ends it, if Forward was not called.
func (e *Entrance) Close() error {
	if e.packet != nil {
		return e.packet.Close()
	}
	return e.stream.Close()
}

// Forward leads what comes to the guest until the result is closed, which closes the entrance
// too.
func (e *Entrance) Forward(d Dialer, log func(line string)) io.Closer {
	if e.packet != nil {
		return forwardUDP(e.packet, e.port, d, log)
	}
	return Forward(e.stream, e.port.Dial(d), log)
}

// A udpForwarder gives each peer of a port a socket in the guest.
type udpForwarder struct {
	front    *net.UDPConn
	guest    string
	dialer   Dialer
	log      func(string)
	failures tally

	ctx    context.Context //nolint:containedctx // Close cancels it for all peers.
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu    sync.Mutex
	flows map[netip.AddrPort]chan []byte
}

func forwardUDP(front *net.UDPConn, p Port, d Dialer, log func(string)) *udpForwarder {
	f := &udpForwarder{front: front, guest: p.Guest, dialer: d, log: log, flows: map[netip.AddrPort]chan []byte{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.all.Go(f.receive)
	return f
}

// Close ends the port and every peer's socket.
func (f *udpForwarder) Close() error {
	f.cancel()
	err := f.front.Close()
	f.all.Wait()
	return err
}

// fails logs a failure for a new reason, and at the 10th, 100th and so on for the same.
func (f *udpForwarder) fails(why string) {
	if line := f.failures.again(why); line != "" && f.ctx.Err() == nil {
		f.log("forward " + f.front.LocalAddr().String() + "/udp: " + line)
	}
}

// receive gives each datagram to its peer's flow.
func (f *udpForwarder) receive() {
	b := make([]byte, maxDatagram)
	for f.ctx.Err() == nil {
		n, from, err := f.front.ReadFromUDPAddrPort(b)
		if err != nil {
			continue // An ICMP answer to an earlier datagram, or Close.
		}
		flow := f.flow(from)
		if flow == nil {
			f.fails(fmt.Sprintf("%d peers have a socket in the guest: a datagram of another is lost", udpFlows))
			continue
		}
		select {
		case flow <- append([]byte(nil), b[:n]...):
		default:
			f.fails("the guest does not take datagrams in time: one is lost")
		}
	}
}

// flow returns the queue of a peer, and begins to serve a new one; nil if there are too many.
func (f *udpForwarder) flow(from netip.AddrPort) chan []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	flow := f.flows[from]
	if flow == nil && len(f.flows) < udpFlows {
		flow = make(chan []byte, udpQueue)
		f.flows[from] = flow
		f.all.Go(func() {
			if err := f.serve(from, flow); err != nil {
				f.fails(err.Error())
			}
		})
	}
	return flow
}

// serve moves the datagrams of one peer until there are none for a time.
func (f *udpForwarder) serve(peer netip.AddrPort, flow chan []byte) error {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.flows, peer)
	}()
	ctx, cancel := context.WithTimeout(f.ctx, dialWait)
	far, err := f.dialer.DialContext(ctx, udp, f.guest)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	idle := time.NewTimer(udpIdle)
	defer idle.Stop()
	back := make(chan error, 1)
	f.all.Go(func() { back <- f.answer(far, peer, idle) })
	for {
		select {
		case b := <-flow:
			idle.Reset(udpIdle)
			if _, err := far.Write(b); err != nil {
				return err
			}
		case err := <-back:
			return err
		case <-idle.C:
			return nil
		case <-f.ctx.Done():
			return nil
		}
	}
}

// answer sends what the guest answers to the peer, until the connection ends.
func (f *udpForwarder) answer(far net.Conn, peer netip.AddrPort, idle *time.Timer) error {
	b := make([]byte, maxDatagram)
	for {
		n, err := far.Read(b)
		if err != nil && isRefusal(err) {
			f.fails(err.Error()) // Nobody listens there, now.
			continue
		}
		if err != nil {
			return err
		}
		idle.Reset(udpIdle)
		_, _ = f.front.WriteToUDPAddrPort(b[:n], peer) // What the peer does not get is lost, as on any way.
	}
}

// isRefusal reports whether an error is one of a datagram, after which the socket goes on.
func isRefusal(err error) bool {
	refused, ok := errors.AsType[*client.GuestError](err)
	return ok && refused.Errno != 0
}
