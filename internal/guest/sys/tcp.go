package sys

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// A Conn is a connection of a stream socket.
type Conn interface {
	io.ReadWriteCloser
	syscall.Conn
	CloseWrite() error
}

// maxSocket is the longest name of a Unix socket (unix(7)).
const maxSocket = 107

// DialUnix connects to the Unix socket of a path; links are followed. A name that begins with
// "@" is an abstract one (unix(7)).
func DialUnix(ctx context.Context, name string) (Conn, error) {
	if err := checkUnix(name); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", name)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil //nolint:errcheck // What "unix" always gives.
}

// DialTCP connects to a host by name or address. Names are looked up by the guest's own
// /etc/hosts and /etc/resolv.conf. The addresses are tried one after the other, in the
// order of the answer.
func DialTCP(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	c, err := dialHost(ctx, "tcp", host, port)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil //nolint:errcheck // What "tcp" always gives.
}

func dialHost(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	if _, err := netip.ParseAddr(host); err != nil {
		if err := lookupFiles(); err != nil {
			return nil, err
		}
	}
	d := net.Dialer{
		Resolver:      &net.Resolver{PreferGo: true}, // The C library's would need cgo.
		FallbackDelay: -1,                            // No race of two families.
		KeepAlive:     -1,                            // Off, as in a socket that a program of the guest opens.
	}
	return d.DialContext(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(port))))
}

// lookupFiles refuses a lookup if one of the files that package net opens for it is not
// regular: a fifo would block a goroutine and a thread for ever. A process that replaces
// the file at this moment can still cost a goroutine for each lookup.
func lookupFiles() error {
	for _, name := range []string{"/etc/nsswitch.conf", "/etc/hosts", "/etc/resolv.conf"} {
		// Package net skips a file that is missing or unreadable.
		if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
			return &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
		}
	}
	return nil
}
