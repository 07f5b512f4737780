package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/agentd-go/agentd/sandbox"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// A Network is a pod's network namespace, led into its machine: what arrives at an
// interface goes to a tap, and back, by tc's mirred, so that the interface and what
// CNI has set up around it stay as they are.
type Network struct {
	Plan pact.Network // What the guest is told.
	Taps []sandbox.Tap
}

// Close closes our descriptors of the taps; QEMU has its own.
func (n *Network) Close() {
	for _, t := range n.Taps {
		_ = t.File.Close()
	}
}

// LeadIn reads the namespace that the caller's thread is in and makes a tap for each
// of its interfaces.
func LeadIn() (n *Network, err error) {
	n = &Network{}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	links, err := netlink.LinkList()
	if err != nil {
		return n, fmt.Errorf("list the interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 || a.EncapType != "ether" || len(a.HardwareAddr) == 0 || a.Flags&net.FlagUp == 0 {
			continue
		}
		if err := n.add(l); err != nil {
			return n, fmt.Errorf("interface %s: %w", a.Name, err)
		}
		names[a.Index] = a.Name
	}
	if len(names) == 0 {
		return n, nil
	}
	return n, n.readTables(names)
}

func (n *Network) add(l netlink.Link) error {
	a := l.Attrs()
	link := pact.Link{Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU}
	addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, addr := range addresses {
		if addr.IP.IsLinkLocalUnicast() && addr.IP.To4() == nil {
			continue // The guest's kernel makes its own of the same MAC.
		}
		link.Addresses = append(link.Addresses, addr.IPNet.String())
	}
	tap := sandbox.Tap{Name: "agentd" + strconv.Itoa(len(n.Taps))}
	copy(tap.MAC[:], a.HardwareAddr)
	if tap.File, err = openTap(tap.Name); err != nil {
		return err
	}
	n.Taps = append(n.Taps, tap)
	n.Plan.Links = append(n.Plan.Links, link)
	return redirect(l, tap.Name, a.MTU)
}

// openTap makes a tap that lives as long as its descriptors.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tap %s: %w", name, err), f.Close())
	}
	return f, nil
}

// redirect joins an interface and a tap, both ways.
func redirect(l netlink.Link, tapName string, mtu int) error {
	tap, err := netlink.LinkByName(tapName)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return netlink.LinkSetMTU(tap, mtu) },
		func() error { return netlink.LinkSetUp(tap) },
		func() error { return mirror(l, tap) },
		func() error { return mirror(tap, l) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("lead it to %s: %w", tapName, err)
		}
	}
	return nil
}

// ingressMajor is the handle that the kernel gives to a qdisc of arriving packets.
const ingressMajor = 0xffff

// mirror sends all that arrives at one interface out of the other.
func mirror(from, to netlink.Link) error {
	root := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: from.Attrs().Index, Parent: netlink.HANDLE_INGRESS, Handle: netlink.MakeHandle(ingressMajor, 0),
	}}
	_ = netlink.QdiscDel(root) // Of a shim before us in this namespace, whose tap is gone.
	if err := netlink.QdiscAdd(root); err != nil {
		return fmt.Errorf("ingress of %s: %w", from.Attrs().Name, err)
	}
	err := netlink.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: from.Attrs().Index, Parent: root.Handle, Protocol: unix.ETH_P_ALL, Priority: 1},
		Actions:     []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
	})
	if err != nil {
		return fmt.Errorf("redirect of %s: %w", from.Attrs().Name, err)
	}
	return nil
}

// readTables reads the routes and permanent neighbours of the interfaces.
func (n *Network) readTables(names map[int]string) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the routes: %w", err)
	}
	var gateways []pact.Route
	for _, r := range routes {
		told, ok := routeOf(r, names)
		switch {
		case !ok:
		case told.Gateway != "":
			gateways = append(gateways, told)
		default:
			n.Plan.Routes = append(n.Plan.Routes, told)
		}
	}
	n.Plan.Routes = append(n.Plan.Routes, gateways...) // A gateway's own route first.
	neighbours, err := netlink.NeighList(0, 0)
	if err != nil {
		return fmt.Errorf("list the neighbours: %w", err)
	}
	for _, e := range neighbours {
		if name, ok := names[e.LinkIndex]; ok && e.State&netlink.NUD_PERMANENT != 0 && !e.IP.IsMulticast() {
			n.Plan.Neighbours = append(n.Plan.Neighbours, pact.Neighbour{Link: name, IP: e.IP.String(), MAC: e.HardwareAddr.String()})
		}
	}
	return nil
}

// routeOf leaves out what the guest's kernel makes itself.
func routeOf(r netlink.Route, names map[int]string) (told pact.Route, ok bool) {
	name, ok := names[r.LinkIndex]
	if !ok || r.Protocol == unix.RTPROT_KERNEL || r.Type != unix.RTN_UNICAST || r.Table != unix.RT_TABLE_MAIN {
		return told, false
	}
	told = pact.Route{Link: name, Scope: int(r.Scope), Priority: r.Priority, MTU: r.MTU, IPv6: r.Family == unix.AF_INET6}
	told.OnLink = r.Flags&int(netlink.FLAG_ONLINK) != 0
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones > 0 {
			told.Destination = r.Dst.String()
		}
	}
	if r.Gw != nil {
		told.Gateway = r.Gw.String()
	}
	if r.Src != nil {
		told.Source = r.Src.String()
	}
	return told, true
}
