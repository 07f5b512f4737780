package agent_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// Connections to a listener in the guest are as those of package net, by messages and by raw
// records.
func TestListenConn(t *testing.T) {
	nstest.Run(t, func() { listenConn(t, speaks, "tcp", "127.0.0.1:0") })
}

func TestListenConnRaw(t *testing.T) {
	nstest.Run(t, func() { listenConn(t, wire.BulkSince, "tcp", "127.0.0.1:0") })
}

func TestListenConn6(t *testing.T) {
	nstest.Run(t, func() { listenConn(t, wire.BulkSince, "tcp6", "[::1]:0") })
}

func TestListenConnUnix(t *testing.T) {
	nstest.Run(t, func() { listenConn(t, wire.BulkSince, "unix", "/tmp/s") })
}

func TestListenConnAbstract(t *testing.T) {
	nstest.Run(t, func() { listenConn(t, wire.BulkSince, "unix", "@s") })
}

// sockets is a client of an agent with a root and a loopback of its own.
func sockets(t *testing.T, g wire.Generation) *client.Client {
	t.Helper()
	nstest.Root(t)
	if err := sys.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	return extended(t, g)
}

func listenConn(t *testing.T, g wire.Generation, network, address string) {
	t.Helper()
	c := sockets(t, g)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := c.Listen(network, address)
		if err != nil {
			return nil, nil, nil, err
		}
		if c2, err = net.Dial(network, l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		if c1, err = l.Accept(); err != nil {
			return nil, nil, nil, err
		}
		if network != "unix" && (c1.LocalAddr().String() != c2.RemoteAddr().String() || c1.RemoteAddr().String() != c2.LocalAddr().String()) {
			t.Errorf("%v from %v, want %v from %v", c1.LocalAddr(), c1.RemoteAddr(), c2.RemoteAddr(), c2.LocalAddr())
		}
		if got := c1.LocalAddr(); network == "unix" && (got.String() != address || got.Network() != network) {
			t.Errorf("the address is %v", got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, nil
	})
}

// A listener keeps what net.Listener promises: its address, the order of its ends, deadlines.
func TestListener(t *testing.T) {
	nstest.Run(t, func() {
		c := sockets(t, wire.BulkSince)
		for _, at := range [][2]string{
			{"tcp", "127.0.0.1:0"},
			{"tcp", ":0"},
			{"tcp4", ":0"},
			{"tcp6", "[::1]:0"},
			{"tcp", "localhost:0"},
			{"tcp6", "localhost:0"},
			{"tcp", "[::]:0"},
			{"tcp4", "0.0.0.0:0"},
			{"unix", "/tmp/l"},
			{"unix", "@l"},
		} {
			t.Run(at[0]+" "+at[1], func(t *testing.T) { listenerEnds(t, c, at[0], at[1]) })
		}
	})
}

func listenerEnds(t *testing.T, c *client.Client, network, address string) {
	t.Helper()
	l, err := c.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if _, err := c.Listen(network, at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen again at %s: %v", at, err)
	}
	if err := as[*client.Listener](t, l).SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := as[*client.Listener](t, l).SetDeadline(time.Time{}); err != nil {
		t.Error(err)
	}
	pass(t, l, network, at)
	left, err := net.Dial(network, at) // Nobody accepts it.
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		for {
			n, err := l.Accept()
			if err != nil {
				waits <- err
				return
			}
			_ = n.Close()
		}
	}()
	if _, err := io.ReadAll(left); err != nil {
		t.Errorf("a connection whose server closes it: %v", err)
	}
	_ = left.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept at Close: %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close again: %v", err)
	}
	again, err := c.Listen(network, at) // The address, and the file of a socket, are free at once.
	if err != nil {
		t.Fatal(err)
	}
	pass(t, again, network, at)
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial(network, at); err == nil {
		t.Error("it still listens")
	}
}

// pass moves a line each way through a listener.
func pass(t *testing.T, l net.Listener, network, at string) {
	t.Helper()
	near, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
		if _, err := io.WriteString(ends[0], "line\n"); err != nil {
			t.Error(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(ends[1], got); err != nil || string(got) != "line\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// The errors name their cause, and nothing is half done.
func TestListenRefused(t *testing.T) {
	nstest.Run(t, func() {
		c := sockets(t, wire.BulkSince)
		if err := os.WriteFile("/tmp/file", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			network, address string
			want             error
		}{
			{"tcp", "192.0.2.1:0", syscall.EADDRNOTAVAIL},
			{"unix", "/tmp/file", syscall.EADDRINUSE},
			{"unix", "/missing/s", fs.ErrNotExist},
			{"unix", "/" + strings.Repeat("x", 107), syscall.ENAMETOOLONG},
			{"unix", "/a\x00b", syscall.EINVAL},
		} {
			if _, err := c.Listen(tt.network, tt.address); !errors.Is(err, tt.want) {
				t.Errorf("%s %q: %v, want %v", tt.network, tt.address, err, tt.want)
			}
		}
		for _, at := range [][2]string{{"udp", ":0"}, {"tcp", "name:0"}, {"tcp", "x"}, {"tcp4", "[::1]:0"}, {"tcp6", "127.0.0.1:0"}, {"tcp", ":70000"}, {"unix", "s"}} {
			if _, err := c.Listen(at[0], at[1]); err == nil || errors.As(err, new(*client.GuestError)) {
				t.Errorf("%v: %v", at, err)
			}
		}
		if _, err := clientOf(t, wire.BulkSince, wire.Ready{}).Listen("tcp", ":0"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("an agent without the extension: %v", err)
		}
	})
}

// A client has as many listeners as its bound says, and another has its own. When a client
// goes, its listeners go.
func TestListenersBound(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		base := descriptors(t)
		listen := func(id uint32) wire.Message {
			h.send(id, &wire.TCPConnect{Listen: "tcp", Host: "127.0.0.1"})
			return h.next(id).Message
		}
		for id := range uint32(64) {
			if _, ok := listen(id + 1).(*wire.TCPConnected); !ok {
				t.Fatalf("listener %d is refused", id+1)
			}
		}
		if m, ok := listen(65).(*wire.TCPFailed); !ok || m.Error != "listen: the client has 64 listeners already" {
			t.Errorf("%+v", m)
		}
		other := uint32(0x02000001)
		if _, ok := listen(other).(*wire.TCPConnected); !ok {
			t.Error("another client has none")
		}
		h.send(66, &wire.TCPConnect{Listener: &other})
		h.expect(66, "failed accept: id 33554433 has no listener")
		h.send(67, &wire.TCPConnect{Listener: new(uint32(1))}) // Waits.
		h.send(1, &wire.TCPEOF{})
		h.expect(67, "failed accept: use of closed network connection")
		h.expect(1, "closed")
		h.send(1, &wire.TCPConnect{Listen: "udp"})
		h.expect(1, "failed listen: want the network tcp, tcp4, tcp6 or unix")
		h.send(0, &wire.ClientDisconnected{IDStart: 1, IDEndExclusive: 0x01FFFFFF})
		eventually(t, "the sockets are closed", func() bool { return descriptors(t) <= base+3 })
	})
}

// A guest that floods a listener costs the agent one connection; the rest waits in the kernel.
func TestListenFlood(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		h.send(1, &wire.TCPConnect{Listen: "tcp", Host: "127.0.0.1"})
		m, ok := h.next(1).Message.(*wire.TCPConnected)
		if !ok {
			t.Fatal("it does not listen")
		}
		base := descriptors(t)
		var all []net.Conn
		for range 200 {
			n, err := net.DialTimeout("tcp", m.Local, time.Second)
			if err != nil {
				break // The kernel's queue is full.
			}
			all = append(all, n)
		}
		if got := descriptors(t) - base - len(all); got > 1 {
			t.Errorf("the agent has %d of %d connections", got, len(all))
		}
		for _, n := range all {
			_ = n.Close()
		}
	})
}

// The link's end is the reason that a listener gives, and only the caller's Close is
// net.ErrClosed.
func TestListenerLinkEnds(t *testing.T) {
	nstest.Run(t, func() {
		c := sockets(t, wire.BulkSince)
		l, err := c.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		_ = c.Close()
		if err := <-ended; !errors.Is(err, client.ErrClosed) || errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, client.ErrClosed) || errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after that: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A hundred programs of the guest connect at once, and each moves 1 MiB each way.
func TestListenCrowd(t *testing.T) {
	nstest.Run(t, func() { listenCrowd(t, sockets(t, wire.BulkSince), "tcp", "127.0.0.1:0") })
}

func TestListenCrowd6(t *testing.T) {
	nstest.Run(t, func() { listenCrowd(t, sockets(t, speaks), "tcp6", "[::1]:0") })
}

func listenCrowd(t *testing.T, c *client.Client, network, address string) {
	t.Helper()
	const conns, size = 100, 1 << 20
	l, err := c.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() {
			if err := crowdOne(network, l.Addr().String(), byte(i), size); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	for range conns {
		n, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer func() { _ = n.Close() }()
			if _, err := io.Copy(n, n); err != nil {
				t.Error(err)
			}
			_ = as[*client.Conn](t, n).CloseWrite()
		})
	}
	all.Wait()
}

// crowdOne sends size bytes and wants them back.
func crowdOne(network, address string, first byte, size int) error {
	to, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return err
	}
	n, err := net.DialTCP(network, nil, to)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	sent := make(chan error, 1)
	go func() {
		b := make([]byte, size)
		for i := range b {
			b[i] = first + byte(i%251)
		}
		_, err := n.Write(b)
		sent <- errors.Join(err, n.CloseWrite())
	}()
	got, err := io.ReadAll(n)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	for i, b := range got {
		if b != first+byte(i%251) {
			return fmt.Errorf("byte %d is wrong", i)
		}
	}
	if len(got) != size {
		return fmt.Errorf("got %d bytes", len(got))
	}
	return nil
}

// A connection that the host breaks is reset in the guest: its peer does not take what it has
// for all of it.
func TestConnReset(t *testing.T) {
	nstest.Run(t, func() {
		c := sockets(t, wire.BulkSince)
		l, err := c.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for _, reset := range []bool{true, false} {
			near, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			far, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if reset {
				if err := as[*client.Conn](t, far).SetLinger(0); err != nil {
					t.Error(err)
				}
			}
			if err := far.Close(); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadAll(near); errors.Is(err, syscall.ECONNRESET) != reset {
				t.Errorf("reset %v: %v", reset, err)
			}
			_ = near.Close()
		}
	})
}

// A program of the guest that swaps a directory does not choose which file is removed.
func TestListenUnlink(t *testing.T) {
	nstest.Run(t, func() {
		c := sockets(t, wire.BulkSince)
		if err := errors.Join(os.Mkdir("/tmp/dir", 0o777), os.Mkdir("/tmp/other", 0o700), os.WriteFile("/tmp/other/s", []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		l, err := c.Listen("unix", "/tmp/dir/s")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename("/tmp/dir", "/tmp/was"), os.Symlink("other", "/tmp/dir"), l.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat("/tmp/other/s"); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat("/tmp/was/s"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
}

// as is v as the type T that the test knows it to have.
func as[T any](t *testing.T, v any) T {
	t.Helper()
	got, ok := v.(T)
	if !ok {
		t.Errorf("%T, want %T", v, got)
	}
	return got
}
