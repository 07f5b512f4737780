package machines

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// network is that of an address.
func network(address string) string {
	if isSocket(address) {
		return "unix"
	}
	return "tcp"
}

func isSocket(s string) bool { return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "@") }

// A ListenContext is a guest's net.ListenConfig.Listen.
type ListenContext func(ctx context.Context, network, address string) (net.Listener, error)

// ListenIn listens at the guest's side of a port with Reverse.
func (p Port) ListenIn(ctx context.Context, listen ListenContext) (net.Listener, error) {
	return listen(ctx, network(p.Guest), p.Guest)
}

// DialOut connects to the host's side of a port with Reverse, for [Forward]: to what the user
// has named and nothing else.
func (p Port) DialOut(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network(p.Host), p.Host)
}

// ParseReverse reads GUEST[:HOST] as ssh -R does: each side is [ADDRESS:]PORT, or the name of
// a Unix socket, which begins with "/" or "@". The guest listens on its loopback unless an
// address is given, and port 0 is any free port there. The host's side is a port of this
// host's loopback unless an address or a name is given; without it, the guest's port.
// Addresses of IPv6 are in brackets.
func ParseReverse(s string) (Port, error) {
	bad := func(why string) (Port, error) {
		return Port{}, fmt.Errorf("reverse forward %q: %s: want GUEST:HOST, each [ADDRESS:]PORT or a socket, such as 8080:3000 or /run/agent.sock:/tmp/agent.sock", s, why)
	}
	if strings.HasSuffix(s, ":") {
		return bad("it ends with a colon")
	}
	guest, rest, err := side(s, 0)
	if err != nil {
		return bad(err.Error())
	}
	if rest == "" {
		if isSocket(guest) {
			return bad("no address of the host")
		}
		_, rest, _ = cutLast(guest)
	}
	host, rest, err := side(rest, 1)
	switch {
	case err != nil:
		return bad(err.Error())
	case rest != "":
		return bad("too many parts")
	}
	return Port{Guest: guest, Host: host, Reverse: true}, nil
}

// side takes one side from the front of s, and returns what follows its colon.
func side(s string, least int) (address, rest string, err error) {
	if isSocket(s) {
		address, rest, _ = strings.Cut(s, ":")
		return address, rest, nil
	}
	var port string
	host := local
	if first, after := part(s); isNumber(first) {
		port, rest = first, after
	} else {
		host = strings.Trim(first, "[]")
		port, rest = part(after)
	}
	n, ok := portNumber(port)
	if !ok || n < least || host == "" {
		return "", "", fmt.Errorf("no port between %d and 65535", least)
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), rest, nil
}

// part cuts s at the first colon outside brackets.
func part(s string) (first, rest string) {
	if end := strings.IndexByte(s, ']'); strings.HasPrefix(s, "[") && end > 0 {
		return s[:end+1], strings.TrimPrefix(s[end+1:], ":")
	}
	first, rest, _ = strings.Cut(s, ":")
	return first, rest
}

// isNumber reports whether s is meant as a port, also if it is none.
func isNumber(s string) bool { return strings.Trim(s, "-0123456789") == "" }
