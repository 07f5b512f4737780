package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/agentd-go/agentd/wire"
)

// Dial connects to an address from inside the guest, as [Client.DialContext] does.
func (c *Client) Dial(network, address string) (net.Conn, error) {
	return c.DialContext(context.Background(), network, address)
}

// DialContext connects to an address from inside the guest. It has the signature of
// [net.Dialer] and fits [net/http.Transport]. The connection is a [*Conn]. The network is
// "tcp", or "tcp4" or "tcp6" for an address that is no name. An empty host is the guest
// itself. With the extension [ExtensionUDP] it may be "udp", "udp4" or "udp6": the connection is
// a [*UDPConn]. With the extension [ExtensionUnix] it may be "unix": the address is the absolute
// path of a socket in the guest, or an abstract name after "@". The guest looks names up, and gives up after 30 seconds; ctx bounds only the
// connecting.
//
// The error is a [*net.OpError], with a [*net.DNSError] inside for a name that the
// guest does not know, else a [*GuestError]: [syscall.ECONNREFUSED], for example,
// on Linux. It needs generation 4.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: remoteAddr(network, address), Err: err}
	}
	if conn.udp {
		return &UDPConn{conn: conn}, nil
	}
	return conn, nil
}

func (c *Client) dial(ctx context.Context, network, address string) (*Conn, error) {
	req, err := c.connectRequest(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := newConn(c, network, req)
	if err := conn.request(req); err != nil {
		return nil, err
	}
	select {
	case <-conn.connected:
	case <-conn.over:
	case <-ctx.Done():
		conn.abort(ctx.Err())
	}
	if !conn.isConnected() {
		return nil, dialError(req.Host, conn.why())
	}
	return conn, nil // Also if it ended since: Read and Write say how.
}

// connectRequest makes the protocol's request for a connection.
func (c *Client) connectRequest(ctx context.Context, network, address string) (*wire.TCPConnect, error) {
	if network == "unix" {
		return c.unixRequest(address)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	kind := strings.TrimRight(network, "46")
	family := strings.TrimPrefix(network, kind)
	ip, notIP := netip.ParseAddr(host)
	switch {
	case kind != "tcp" && kind != "udp", len(family) > 1:
		return nil, net.UnknownNetworkError(network)
	case family == "4" && (notIP != nil || !ip.Is4()), family == "6" && (notIP != nil || !ip.Is6()):
		return nil, &net.AddrError{Err: "not an address for network " + network, Addr: address}
	}
	port, err := net.DefaultResolver.LookupPort(ctx, kind, service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	req := &wire.TCPConnect{Host: host, Port: uint16(port)}
	if kind == "udp" {
		return c.udpRequest(req)
	}
	return req, nil
}

// unixRequest makes the request for a connection to a Unix socket.
func (c *Client) unixRequest(name string) (*wire.TCPConnect, error) {
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return nil, &net.AddrError{Err: "not an absolute path, and no abstract name", Addr: name}
	}
	return &wire.TCPConnect{Unix: name}, c.needs(ExtensionUnix, "a Unix socket of the guest")
}

// remoteAddr is an address of the guest, as it was given.
func remoteAddr(network, address string) net.Addr {
	if network == "unix" {
		return &net.UnixAddr{Name: address, Net: network}
	}
	return guestAddr(address)
}

// dialError turns a failed lookup into an error of package net.
func dialError(host string, err error) error {
	const lookup = "failed to lookup address information: "
	var refused *GuestError
	if !errors.As(err, &refused) {
		return err
	}
	_, why, ok := strings.Cut(refused.Message, lookup)
	if !ok {
		return err
	}
	missing := strings.Contains(why, "does not resolve")
	return &net.DNSError{Err: why, Name: host, IsNotFound: missing, IsTemporary: !missing, UnwrapErr: err}
}

// guestAddr is an address of the guest, as it was named.
type guestAddr string

// Network returns "tcp".
func (guestAddr) Network() string { return "tcp" }

func (a guestAddr) String() string { return string(a) }

// addrOf is a *net.TCPAddr unless the host is a name, and nil where the guest tells it.
func addrOf(req *wire.TCPConnect) net.Addr {
	if req.Listener != nil || req.UDP {
		return nil
	}
	if req.Unix != "" {
		return remoteAddr("unix", req.Unix)
	}
	if ip, err := netip.ParseAddr(req.Host); err == nil {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, req.Port))
	}
	return guestAddr(net.JoinHostPort(req.Host, strconv.Itoa(int(req.Port))))
}
