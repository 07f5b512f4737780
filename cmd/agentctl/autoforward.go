package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/machines"
)

// maxAuto bounds the ports of this host that a machine can take by listening.
const maxAuto = 128

// A forwardLine is a line of forward --auto.
type forwardLine struct {
	machines.Port

	Ended bool `json:"ended,omitempty"`
}

// An autoForwarder forwards a port of this host's loopback to each port at which a machine
// listens: the same number, or another one if that is taken.
type autoForwarder struct {
	dial machines.Dialer
	tell func(forwardLine) error
	log  func(line string)

	ports map[uint16]*forwardedPort
	full  bool // The log has said that there are too many.
}

// A forwardedPort is one port of the machine, however many addresses it has there.
type forwardedPort struct {
	port machines.Port
	from io.Closer
}

// forwardAuto follows the machine's ports until ctx ends or the machine has gone.
func forwardAuto(ctx context.Context, r *client.Reconnector, asJSON bool) error {
	a := &autoForwarder{dial: r, log: say, ports: map[uint16]*forwardedPort{}, tell: func(l forwardLine) error { return tellForward(l, asJSON) }}
	defer a.close()
	for {
		c, err := r.Client(ctx)
		if err == nil {
			err = a.follow(ctx, c)
		}
		switch {
		case ctx.Err() != nil:
			return nil // Users end it by ^C.
		case err != nil && !client.LinkEnded(err):
			return err
		}
	}
}

// follow looks at the machine's ports over one link. It looks at all of them each time,
// because what happens between two links has no event.
func (a *autoForwarder) follow(ctx context.Context, c *client.Client) error {
	tick := time.NewTicker(client.PortInterval)
	defer tick.Stop()
	for {
		now, err := c.ListeningPorts(ctx)
		if err == nil {
			err = a.update(ctx, now)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Done():
			return c.Err()
		}
	}
}

// update begins and ends ports so that they fit the addresses at which the machine listens.
func (a *autoForwarder) update(ctx context.Context, now []netip.AddrPort) error {
	wanted := guestPorts(now)
	for number, p := range a.ports {
		if _, stays := wanted[number]; stays {
			continue
		}
		delete(a.ports, number)
		_ = p.from.Close() // Its server has gone.
		if err := a.tell(forwardLine{p.port, true}); err != nil {
			return err
		}
	}
	for _, at := range sortedPorts(wanted) {
		if _, open := a.ports[at.Port()]; open {
			continue
		}
		if len(a.ports) >= maxAuto {
			if !a.full {
				a.log(fmt.Sprintf("the machine listens at more than %d ports; the others are left out while these last", maxAuto))
			}
			a.full = true
			return nil
		}
		if err := a.begin(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// guestPorts has an address for each port number: the guest's loopback if that reaches the
// server, for which [machines.Port.Dial] also tries ::1.
func guestPorts(all []netip.AddrPort) map[uint16]netip.AddrPort {
	ports := map[uint16]netip.AddrPort{}
	for _, at := range all {
		ip := at.Addr().Unmap()
		_, seen := ports[at.Port()]
		switch {
		case ip.IsUnspecified() || ip.IsLoopback() && (ip.Is6() || ip == loopback):
			ports[at.Port()] = netip.AddrPortFrom(loopback, at.Port())
		case !seen:
			ports[at.Port()] = netip.AddrPortFrom(ip, at.Port())
		}
	}
	return ports
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func sortedPorts(of map[uint16]netip.AddrPort) (all []netip.AddrPort) {
	for _, at := range of {
		all = append(all, at)
	}
	slices.SortFunc(all, func(x, y netip.AddrPort) int { return int(x.Port()) - int(y.Port()) })
	return all
}

// begin forwards a port of this host to an address of the machine.
func (a *autoForwarder) begin(ctx context.Context, at netip.AddrPort) error {
	here := func(number int) machines.Port {
		return machines.Port{Host: net.JoinHostPort(loopback.String(), strconv.Itoa(number)), Guest: at.String()}
	}
	p := here(int(at.Port()))
	from, err := p.Open(ctx)
	if err != nil { // It is taken, or for root alone.
		a.log(err.Error() + "; it uses another port of this host")
		p = here(0)
		from, err = p.Open(ctx)
	}
	if err != nil {
		return err
	}
	p.Host = from.Addr().String()
	a.ports[at.Port()] = &forwardedPort{p, from.Forward(a.dial, a.log)}
	return a.tell(forwardLine{Port: p})
}

func (a *autoForwarder) close() {
	for _, p := range a.ports {
		_ = p.from.Close() // Connections end with this process.
	}
}

// tellForward prints a line.
func tellForward(l forwardLine, asJSON bool) error {
	if asJSON {
		return encodeJSON(os.Stdout, l, "")
	}
	mark := "+"
	if l.Ended {
		mark = "-"
	}
	_, err := fmt.Println(mark + l.Port.String())
	return err
}
