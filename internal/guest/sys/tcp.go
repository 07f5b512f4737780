package sys

import (
	"context"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
)

// DialTCP connects to a host by name or address. Names are looked up in the
// guest's own files and by its own servers (/etc/hosts, /etc/resolv.conf), and
// their addresses are tried one after the other, in the order that this gives.
func DialTCP(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	if _, err := netip.ParseAddr(host); err != nil {
		if err := lookupFiles(); err != nil {
			return nil, err
		}
	}
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

// lookupFiles refuses what package net would open for a lookup, with a goroutine and
// a thread that wait for ever if it is a fifo. It does not keep apart who changes the
// files at this moment: then each lookup costs a goroutine, until the fifo has a writer.
func lookupFiles() error {
	for _, name := range []string{"/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf"} {
		// What is not there, or cannot be looked at, is package net's to pass over.
		if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
			return &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
		}
	}
	return nil
}
