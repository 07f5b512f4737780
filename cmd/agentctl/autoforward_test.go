package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// A guestDialer is a guest in which the port of every address answers with that address.
type guestDialer struct{}

func (guestDialer) DialContext(_ context.Context, network, address string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = fmt.Fprintf(theirs, "%s %s", network, address)
		_ = theirs.Close()
	}()
	return ours, nil
}

// newAuto returns a forwarder whose lines are collected.
func newAuto(t *testing.T) (a *autoForwarder, lines func() []forwardLine, logged *strings.Builder) {
	t.Helper()
	var told []forwardLine
	logged = &strings.Builder{}
	a = &autoForwarder{
		dial: guestDialer{}, ports: map[uint16]*forwardedPort{},
		tell: func(l forwardLine) error { told = append(told, l); return nil },
		log:  func(line string) { logged.WriteString(line + "\n") },
	}
	t.Cleanup(a.close)
	return a, func() []forwardLine { now := told; told = nil; return now }, logged
}

// freePort returns a port of this host that nobody has, and a listener that has another one.
func freePort(t *testing.T) (free uint16, taken *net.TCPListener) {
	t.Helper()
	var all [2]*net.TCPListener
	for i := range all {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		all[i] = l
	}
	free = numberOf(t, all[0].Addr().String())
	if err := all[0].Close(); err != nil {
		t.Fatal(err)
	}
	return free, all[1]
}

func numberOf(t *testing.T, address string) uint16 {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return at.Port()
}

func addresses(t *testing.T, all ...string) (parsed []netip.AddrPort) {
	t.Helper()
	for _, s := range all {
		parsed = append(parsed, netip.MustParseAddrPort(s))
	}
	return parsed
}

// A port is forwarded by its own number if that is free, else by another that is told, and its
// listener ends with its server.
func TestForwardAuto(t *testing.T) {
	a, lines, logged := newAuto(t)
	free, other := freePort(t)
	taken := numberOf(t, other.Addr().String())
	first, second := fmt.Sprint("0.0.0.0:", free), fmt.Sprint("10.0.2.15:", taken)
	if err := a.update(t.Context(), addresses(t, first, second, fmt.Sprint("[::]:", free))); err != nil {
		t.Fatal(err)
	}
	hosts := map[string]string{}
	for _, l := range lines() {
		hosts[l.Guest] = l.Host
	}
	loop := fmt.Sprint("127.0.0.1:", free)
	if len(hosts) != 2 || hosts[loop] != loop || hosts[second] == "" || numberOf(t, hosts[second]) == taken {
		t.Fatalf("forwarded %v", hosts)
	}
	if !strings.Contains(logged.String(), fmt.Sprint("127.0.0.1:", taken, " -> ")) || strings.Count(logged.String(), "\n") != 1 {
		t.Errorf("logged %q", logged)
	}
	for guest, host := range hosts {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "tcp "+guest {
			t.Errorf("%s: %q, %v", host, got, err)
		}
		_ = conn.Close()
	}

	// Nothing changes with the addresses of one port, and both end with their servers.
	if err := a.update(t.Context(), addresses(t, first, second)); err != nil || len(lines()) != 0 {
		t.Errorf("%v, or lines for nothing", err)
	}
	if err := a.update(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines() {
		if !l.Ended || l.Host != hosts[l.Guest] {
			t.Errorf("line %+v", l)
		}
		if conn, err := net.Dial("tcp", l.Host); err == nil {
			_ = conn.Close()
			t.Errorf("%s is still forwarded", l.Host)
		}
	}
}

// A machine cannot take all ports of this host.
func TestForwardAutoBound(t *testing.T) {
	a, lines, logged := newAuto(t)
	var all []netip.AddrPort
	for i := range maxAuto + 50 {
		all = append(all, netip.AddrPortFrom(loopback, uint16(1+i)))
	}
	for range 2 {
		if err := a.update(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(lines()); n != maxAuto || strings.Count(logged.String(), "left out") != 1 {
		t.Errorf("%d ports, logged %q", n, logged)
	}
}

// The address for a port reaches its server: the loopback wherever that does.
func TestGuestPorts(t *testing.T) {
	for text, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", "[::1]:80": "127.0.0.1:80", "127.0.0.1:80": "127.0.0.1:80",
		"127.0.0.2:80": "127.0.0.2:80", "10.0.2.15:80": "10.0.2.15:80", "[fd00::1]:80": "[fd00::1]:80", "[::ffff:10.0.2.15]:80": "10.0.2.15:80",
		"10.0.2.15:80 127.0.0.1:80": "127.0.0.1:80", "127.0.0.1:80 10.0.2.15:80": "127.0.0.1:80",
		"127.0.0.2:80 10.0.2.15:80": "127.0.0.2:80",
	} {
		got := guestPorts(addresses(t, strings.Fields(text)...))
		if len(got) != 1 || got[80].String() != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}
