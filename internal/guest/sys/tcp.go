package sys

import (
	"context"
	"net"
	"strconv"
)

// DialTCP connects to a host by name or address. Names are looked up in the
// guest's own files and by its own servers (/etc/hosts, /etc/resolv.conf), and
// their addresses are tried one after the other, in the order that this gives.
func DialTCP(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	d := net.Dialer{
		Resolver:      &net.Resolver{PreferGo: true}, // The C library's would need cgo.
		FallbackDelay: -1,                            // No race of two families.
		KeepAlive:     -1,                            // The peer's matter, as with a socket that a program of the guest opens.
	}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil //nolint:errcheck // What "tcp" always gives.
}
