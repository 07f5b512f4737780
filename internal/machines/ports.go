package machines

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// local is the host's address of a port without one. Unlike with container tools, only
// this host can reach it.
const local = "127.0.0.1"

// ParsePorts reads [[ADDRESS:]PORT:]PORT[/tcp|/udp] in the format of container tools: the
// host's side, then the guest's. Without a host port any free port is used. Each side
// may be a range, FIRST-LAST, and both ranges must have the same length.
func ParsePorts(s string) ([]Port, error) {
	text, protocol, ok := strings.Cut(s, "/")
	switch {
	case !ok, protocol == "tcp":
		protocol = ""
	case protocol != udp:
		return nil, fmt.Errorf("port %q: want tcp or udp", s)
	}
	address, host, guest := portParts(text)
	there, fit := parseRange(guest, 1)
	here, ok := span{}, true
	if host != "" {
		here, ok = parseRange(host, 0)
	}
	switch {
	case net.ParseIP(address) == nil || !fit || !ok:
		return nil, fmt.Errorf("port %q: want [[ADDRESS:]PORT:]PORT, such as 8080:80 or 8000-8010:80-90", s)
	case host != "" && here.length() != there.length():
		return nil, fmt.Errorf("port %q: %d ports of this host for %d of the machine", s, here.length(), there.length())
	}
	var all []Port
	for i := range there.length() {
		from := 0 // Any free port.
		if here.first > 0 {
			from = here.first + i
		}
		all = append(all, Port{Host: net.JoinHostPort(address, strconv.Itoa(from)), Guest: net.JoinHostPort(local, strconv.Itoa(there.first+i)), Protocol: protocol})
	}
	return all, nil
}

// portParts splits [[ADDRESS:]HOST:]GUEST.
func portParts(s string) (address, host, guest string) {
	rest, guest, ok := cutLast(s)
	if !ok {
		return local, "", guest
	}
	address, host, ok = cutLast(rest)
	if !ok {
		address, host = local, rest
	}
	return strings.TrimSuffix(strings.TrimPrefix(cmp.Or(address, local), "["), "]"), host, guest
}

func cutLast(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

// A span is a range of ports that includes both ends.
type span struct{ first, last int }

func (r span) length() int { return r.last - r.first + 1 }

// parseRange reads FIRST[-LAST]; 0, if least allows it, cannot begin a range.
func parseRange(s string, least int) (r span, ok bool) {
	first, last, both := strings.Cut(s, "-")
	if !both {
		last = first
	}
	r.first, ok = portNumber(first)
	if !ok || r.first < least {
		return r, false
	}
	r.last, ok = portNumber(last)
	return r, ok && r.last >= r.first && (r.first > 0 || !both)
}

func portNumber(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}
