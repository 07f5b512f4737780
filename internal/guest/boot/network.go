package boot

import (
	"errors"

	"github.com/agentd-go/agentd/internal/guest/plan"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

// loopback brings lo up; the kernel gives it its addresses. A machine can run without
// IPv6.
func (m *Machine) loopback() error {
	err := sys.LoopbackUp()
	if errors.Is(err, sys.ErrNoIPv6) {
		sys.Logf("lo is without ::1: %v", err)
		return nil
	}
	return err
}

// network brings the interface up, with its addresses and default routes.
func (m *Machine) network(s plan.Interface) (err error) {
	n, err := sys.OpenNetlink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	link, err := await(func() (sys.Link, error) { return n.Link(s.Device) }, sys.ErrNoLink)
	if err != nil {
		return err
	}
	if err := n.SetLink(link, s.MAC[:], uint32(s.MTU)); err != nil {
		return err
	}
	all := configured(s)
	for _, a := range all {
		if err := n.AddAddress(link, a.Prefix); err != nil {
			return err
		}
	}
	if err := n.UpLink(link); err != nil {
		return err
	}
	for _, a := range all {
		direct := !a.Prefix.Contains(a.Gateway) && !a.Gateway.IsLinkLocalUnicast()
		if err := n.SetDefaultRoute(link, a.Gateway, direct); err != nil {
			return err
		}
	}
	return nil
}

// configured returns the configured addresses.
func configured(s plan.Interface) (all []plan.Address) {
	for _, a := range []plan.Address{s.IPv4, s.IPv6} {
		if a.Configured() {
			all = append(all, a)
		}
	}
	return all
}
