package guest

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// configure moves the machine's cards into the pod's namespace and gives them the
// names, addresses and routes that the pod has on the host.
func configure(n pact.Network) error {
	ns, err := os.Open(pact.Net)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	outside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer outside.Close()
	inside, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := loopbackUp(inside); err != nil {
		return err
	}
	indices := map[string]int{"lo": 1}
	for _, l := range n.Links {
		if indices[l.Name], err = bring(outside, inside, ns, l); err != nil {
			return fmt.Errorf("interface %s: %w", l.Name, err)
		}
	}
	if err := addNeighbours(inside, indices, n.Neighbours); err != nil {
		return err
	}
	return addRoutes(inside, indices, n.Routes)
}

func loopbackUp(h *netlink.Handle) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

// bring leads one card from the machine's namespace into the pod's.
func bring(outside, inside *netlink.Handle, ns *os.File, want pact.Link) (index int, err error) {
	card, err := findCard(outside, want.MAC)
	if err != nil {
		return 0, err
	}
	if err := outside.LinkSetNsFd(card, int(ns.Fd())); err != nil {
		return 0, fmt.Errorf("move it to the pod: %w", err)
	}
	if card, err = findCard(inside, want.MAC); err != nil {
		return 0, err
	}
	steps := []func() error{
		func() error { return inside.LinkSetName(card, want.Name) },
		func() error { return inside.LinkSetMTU(card, want.MTU) },
	}
	for _, cidr := range want.Addresses {
		steps = append(steps, func() error { return addAddress(inside, card, cidr) })
	}
	steps = append(steps, func() error { return inside.LinkSetUp(card) })
	return card.Attrs().Index, errorOf(steps...)
}

func findCard(h *netlink.Handle, mac string) (netlink.Link, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.Attrs().HardwareAddr.String() == mac {
			return l, nil
		}
	}
	return nil, fmt.Errorf("the machine has no card with the address %s", mac)
}

func addAddress(h *netlink.Handle, card netlink.Link, cidr string) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("address %q: %w", cidr, err)
	}
	if a.IP.To4() == nil {
		a.Flags |= unix.IFA_F_NODAD // The host's side has looked for its double.
	}
	if err := h.AddrAdd(card, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address %s: %w", cidr, err)
	}
	return nil
}

func addNeighbours(h *netlink.Handle, indices map[string]int, all []pact.Neighbour) error {
	for _, n := range all {
		mac, err := net.ParseMAC(n.MAC)
		if err != nil {
			return fmt.Errorf("neighbour %s: %w", n.IP, err)
		}
		err = h.NeighSet(&netlink.Neigh{LinkIndex: indices[n.Link], State: netlink.NUD_PERMANENT, IP: net.ParseIP(n.IP), HardwareAddr: mac})
		if err != nil {
			return fmt.Errorf("neighbour %s: %w", n.IP, err)
		}
	}
	return nil
}

// addRoutes adds them in the order of the host's table, where a gateway's own route
// stands before those over it.
func addRoutes(h *netlink.Handle, indices map[string]int, all []pact.Route) error {
	for _, r := range all {
		route, err := routeOf(r, indices)
		if err != nil {
			return err
		}
		if err := h.RouteAdd(route); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("route to %q over %q: %w", r.Destination, r.Gateway, err)
		}
	}
	return nil
}

func routeOf(r pact.Route, indices map[string]int) (*netlink.Route, error) {
	route := &netlink.Route{
		LinkIndex: indices[r.Link], Gw: net.ParseIP(r.Gateway), Src: net.ParseIP(r.Source),
		Scope: netlink.Scope(r.Scope), Priority: r.Priority, MTU: r.MTU,
	}
	if r.OnLink {
		route.Flags = int(netlink.FLAG_ONLINK)
	}
	if r.Destination == "" {
		route.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if r.IPv6 {
			route.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		return route, nil
	}
	_, dst, err := net.ParseCIDR(r.Destination)
	if err != nil {
		return nil, fmt.Errorf("route: destination %q: %w", r.Destination, err)
	}
	route.Dst = dst
	return route, nil
}
