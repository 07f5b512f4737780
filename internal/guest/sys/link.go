package sys

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNoLink is returned by Link if there is no such network device. The device may appear
// later.
var ErrNoLink = errors.New("no such network device")

// A Link is a network device.
type Link struct {
	Name  string
	Index uint32
	MAC   []byte
	MTU   uint32
}

// Link looks a network device up.
func (n *Netlink) Link(name string) (Link, error) {
	body := make([]byte, unix.SizeofIfInfomsg)
	body = attribute(body, unix.IFLA_IFNAME, append([]byte(name), 0))
	answers, err := n.request(unix.RTM_GETLINK, 0, body)
	if errors.Is(err, unix.ENODEV) {
		return Link{}, fmt.Errorf("%w: %s", ErrNoLink, name)
	}
	if err == nil && (len(answers) == 0 || len(answers[0]) < unix.SizeofIfInfomsg) {
		err = errors.New("netlink: malformed answer")
	}
	if err != nil {
		return Link{}, fmt.Errorf("look up %s: %w", name, err)
	}
	l := Link{Name: name, Index: order.Uint32(answers[0][4:])}
	eachAttribute(answers[0][unix.SizeofIfInfomsg:], func(typ uint16, value []byte) {
		switch {
		case typ == unix.IFLA_ADDRESS:
			l.MAC = value
		case typ == unix.IFLA_MTU && len(value) == 4:
			l.MTU = order.Uint32(value)
		}
	})
	return l, nil
}

// SetLink sets the hardware address and the MTU of a device, unless it has them already.
// Some drivers change neither while the device is up.
func (n *Netlink) SetLink(l Link, mac []byte, mtu uint32) error {
	if !slices.Equal(l.MAC, mac) {
		if err := n.changeLink(l, 0, attribute(nil, unix.IFLA_ADDRESS, mac)); err != nil {
			return fmt.Errorf("set the hardware address of %s to %x: %w", l.Name, mac, err)
		}
	}
	if l.MTU != mtu {
		if err := n.changeLink(l, 0, attribute(nil, unix.IFLA_MTU, number(mtu))); err != nil {
			return fmt.Errorf("set the mtu of %s to %d: %w", l.Name, mtu, err)
		}
	}
	return nil
}

// UpLink brings a device up.
func (n *Netlink) UpLink(l Link) error {
	if err := n.changeLink(l, unix.IFF_UP, nil); err != nil {
		return fmt.Errorf("bring %s up: %w", l.Name, err)
	}
	return nil
}

// changeLink sets flags and attributes of a device (struct ifinfomsg).
func (n *Netlink) changeLink(l Link, flags uint32, attributes []byte) error {
	body := order.AppendUint32(nil, unix.AF_UNSPEC)
	body = order.AppendUint32(body, l.Index)
	body = order.AppendUint32(body, flags)
	body = order.AppendUint32(body, flags) // The mask of flags to change.
	_, err := n.request(unix.RTM_NEWLINK, 0, append(body, attributes...))
	return err
}

// AddAddress gives a device an address, usable at once: it turns off IPv6's duplicate
// address detection, which takes a second. It is no error if the device has the address
// already with this prefix length.
func (n *Netlink) AddAddress(l Link, prefix netip.Prefix) error {
	addr := prefix.Addr().AsSlice()
	body := addressHeader(l, prefix)
	body = attribute(body, unix.IFA_ADDRESS, addr)
	if prefix.Addr().Is4() {
		body = attribute(body, unix.IFA_LOCAL, addr)
	}
	_, err := n.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
	if errors.Is(err, unix.EEXIST) {
		err = n.checkAddress(l, prefix, err)
	}
	if err != nil {
		return fmt.Errorf("add address %v to %s: %w", prefix, l.Name, err)
	}
	return nil
}

// addressHeader is struct ifaddrmsg.
func addressHeader(l Link, prefix netip.Prefix) []byte {
	flags := byte(unix.IFA_F_NODAD)
	if prefix.Addr().Is4() {
		flags = 0
	}
	header := []byte{family(prefix.Addr()), byte(prefix.Bits()), flags, unix.RT_SCOPE_UNIVERSE}
	return order.AppendUint32(header, l.Index)
}

// checkAddress returns err unless the device has exactly the address.
func (n *Netlink) checkAddress(l Link, want netip.Prefix, err error) error {
	answers, e := n.request(unix.RTM_GETADDR, unix.NLM_F_DUMP, []byte{family(want.Addr()), 0, 0, 0, 0, 0, 0, 0})
	if e != nil {
		return errors.Join(err, e)
	}
	for _, b := range answers {
		if got, index := address(b); index == l.Index && got == want {
			return nil
		}
	}
	return fmt.Errorf("%w: with another prefix", err)
}

// address takes the address out of an answer (struct ifaddrmsg). For a point-to-point
// device it is the local one.
func address(b []byte) (prefix netip.Prefix, index uint32) {
	if len(b) < unix.SizeofIfAddrmsg {
		return netip.Prefix{}, 0
	}
	var addr netip.Addr
	eachAttribute(b[unix.SizeofIfAddrmsg:], func(typ uint16, value []byte) {
		if typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !addr.IsValid() {
			addr, _ = netip.AddrFromSlice(value)
		}
	})
	return netip.PrefixFrom(addr, int(b[1])), order.Uint32(b[4:])
}

// SetDefaultRoute makes gateway the default route and replaces another one. direct says
// that the gateway is on the device's network although no prefix covers it.
func (n *Netlink) SetDefaultRoute(l Link, gateway netip.Addr, direct bool) error {
	var flags uint32
	if direct {
		flags = unix.RTNH_F_ONLINK
	}
	// struct rtmsg: family, lengths of destination and source, tos, table,
	// protocol, scope, type, flags.
	body := []byte{
		family(gateway), 0, 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST,
	}
	body = order.AppendUint32(body, flags)
	body = attribute(body, unix.RTA_GATEWAY, gateway.AsSlice())
	body = attribute(body, unix.RTA_OIF, number(l.Index))
	if _, err := n.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body); err != nil {
		return fmt.Errorf("add default route by %v on %s: %w", gateway, l.Name, err)
	}
	return nil
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
