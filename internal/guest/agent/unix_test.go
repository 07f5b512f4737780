package agent_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// Connections to sockets of a path and to abstract ones are as those of package net, by messages
// and by raw records.
func TestUnixConn(t *testing.T) { nstest.Run(t, func() { unixConn(t, speaks, "/tmp/s") }) }

func TestUnixConnRaw(t *testing.T)  { nstest.Run(t, func() { unixConn(t, wire.BulkSince, "/tmp/s") }) }
func TestAbstractConn(t *testing.T) { nstest.Run(t, func() { unixConn(t, wire.BulkSince, "@s") }) }

func unixConn(t *testing.T, g wire.Generation, name string) {
	t.Helper()
	c := extended(t, g)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := net.Listen("unix", name)
		if err != nil {
			return nil, nil, nil, err
		}
		defer func() { _ = l.Close() }()
		if c1, err = c.Dial("unix", name); err != nil {
			return nil, nil, nil, err
		}
		if at := c1.RemoteAddr(); at.Network() != "unix" || at.String() != name || c1.LocalAddr().Network() != "unix" {
			t.Errorf("the connection is from %v to %v", c1.LocalAddr(), at)
		}
		c2, err = l.Accept()
		return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, err
	})
}

func TestUnixRefused(t *testing.T) {
	nstest.Run(t, func() {
		c := extended(t, wire.BulkSince)
		l, err := net.Listen("unix", "/tmp/s")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename("/tmp/s", "/tmp/gone"), l.Close(), os.WriteFile("/tmp/file", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]error{
			"/tmp/missing": fs.ErrNotExist, "/tmp/gone": syscall.ECONNREFUSED, "/tmp/file": syscall.ECONNREFUSED,
			"/" + strings.Repeat("x", 107): syscall.ENAMETOOLONG, "/a\x00b": syscall.EINVAL, "@nobody": syscall.ECONNREFUSED,
		} {
			if _, err := c.Dial("unix", name); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", name, err, want)
			}
		}
		if _, err := c.Dial("unix", "relative"); !isAddrError(err) {
			t.Error(err)
		}
		if _, err := clientOf(t, wire.BulkSince, wire.Ready{}).Dial("unix", "/tmp/s"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("an agent without the extension: %v", err)
		}
	})
}

func isAddrError(err error) bool {
	_, ok := errors.AsType[*net.AddrError](err)
	return ok
}

// extended is a client of an agent of which it knows all extensions.
func extended(t *testing.T, g wire.Generation) *client.Client {
	t.Helper()
	return clientOf(t, g, wire.Ready{Extensions: []string{wire.ExtensionArchive, wire.ExtensionListen, wire.ExtensionUnix}})
}
