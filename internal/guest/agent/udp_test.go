package agent_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
)

// udpEcho answers each datagram with itself.
func udpEcho(t *testing.T, network, address string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	u := as[*net.UDPConn](t, c)
	_ = u.SetReadBuffer(4 << 20) // As much as the kernel allows.
	t.Cleanup(func() { _ = u.Close() })
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	return u
}

func udpClient(t *testing.T, g wire.Generation) *client.Client {
	t.Helper()
	nstest.Root(t)
	if err := sys.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	return clientOf(t, g, wire.Ready{Extensions: []string{wire.ExtensionUDP}})
}

// A thousand datagrams of sizes from 0 to the longest come back whole, each as one.
func TestUDPEcho(t *testing.T) {
	nstest.Run(t, func() { udpSizes(t, udpClient(t, wire.BulkSince), "udp", "127.0.0.1:0", 65507, 1000) })
}

func TestUDPEchoMessages(t *testing.T) {
	nstest.Run(t, func() { udpSizes(t, udpClient(t, speaks), "udp4", "127.0.0.1:0", 65507, 200) })
}

func TestUDPEcho6(t *testing.T) {
	nstest.Run(t, func() { udpSizes(t, udpClient(t, wire.BulkSince), "udp6", "[::1]:0", client.MaxDatagram, 200) })
}

// Every size from 0 to the longest, by records, by messages and over IPv6.
func TestUDPEverySize(t *testing.T) { udpEverySize(t, wire.BulkSince, "udp", "127.0.0.1:0", 65507) }

func TestUDPEverySizeMessages(t *testing.T) { udpEverySize(t, speaks, "udp4", "127.0.0.1:0", 65507) }

func TestUDPEverySize6(t *testing.T) {
	udpEverySize(t, wire.BulkSince, "udp6", "[::1]:0", client.MaxDatagram)
}

// udpEverySize compares what the guest's kernel has had with what came: each datagram reached
// the echo and, on its way back, the agent.
func udpEverySize(t *testing.T, g wire.Generation, network, address string, most int) {
	t.Helper()
	if os.Getenv("AGENTD_LONG") != "1" {
		t.Skip("65,508 datagrams take a minute: AGENTD_LONG=1")
	}
	nstest.Run(t, func() {
		c := udpClient(t, g)
		before, started := kernelDatagrams(t), time.Now()
		udpSizes(t, c, network, address, most, most+1)
		had := kernelDatagrams(t)
		t.Logf("%d datagrams there and back in %v; the kernel delivered %d and dropped %d",
			most+1, time.Since(started).Round(time.Millisecond), had.in-before.in, had.dropped-before.dropped)
		if had.in-before.in != 2*(most+1) || had.dropped != before.dropped {
			t.Errorf("the kernel had %+v before and %+v after", before, had)
		}
	})
}

// A datagramCount is what the kernel has delivered to sockets and dropped, with both versions
// of IP.
type datagramCount struct{ in, dropped int }

// kernelDatagrams reads the counts of the network namespace (RFC 4113; Documentation/networking/snmp_counter.rst).
func kernelDatagrams(t *testing.T) (c datagramCount) {
	t.Helper()
	four, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	six, err := os.ReadFile("/proc/net/snmp6")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	var names []string
	for line := range strings.Lines(string(four)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		for i, name := range names {
			counts[name], _ = strconv.Atoi(fields[i]) // The line of names comes first.
		}
		names = fields
	}
	for line := range strings.Lines(string(six)) {
		name, value, _ := strings.Cut(line, " ")
		counts[strings.TrimSpace(name)], _ = strconv.Atoi(strings.TrimSpace(value))
	}
	c.in = counts["InDatagrams"] + counts["Udp6InDatagrams"]
	c.dropped = counts["InErrors"] + counts["Udp6InErrors"]
	return c
}

// udpSizes sends count datagrams of sizes between 0 and most, with both of these, each when
// the last one is back: the echo's own queue holds few of the longest.
func udpSizes(t *testing.T, c *client.Client, network, address string, most, count int) {
	t.Helper()
	echo := udpEcho(t, network, address)
	n, err := c.Dial(network, echo.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	if n.RemoteAddr().String() != echo.LocalAddr().String() || n.LocalAddr().Network() != "udp" {
		t.Errorf("from %v to %v", n.LocalAddr(), n.RemoteAddr())
	}
	data, got := make([]byte, most), make([]byte, most+1)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	for i := range count {
		size := i * most / (count - 1)
		sent := data[:size]
		if m, err := n.Write(sent); m != size || err != nil {
			t.Fatalf("%d bytes: wrote %d, %v", size, m, err)
		}
		if m, err := n.Read(got); err != nil || !bytes.Equal(got[:m], sent) {
			t.Fatalf("%d bytes: got %d, %v", size, m, err)
		}
	}
	if lost := as[*client.UDPConn](t, n).Lost(); lost != 0 {
		t.Errorf("%d datagrams are lost", lost)
	}
}

// A thousand datagrams that nobody reads for now are not lost, as the bounds say; more than
// the bounds hold are counted, and every one that comes is whole and in order.
func TestUDPUnread(t *testing.T) {
	nstest.Run(t, func() {
		c := udpClient(t, wire.BulkSince)
		server, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = server.Close() }()
		n, err := c.Dial("udp", server.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.Close() }()
		to, err := net.ResolveUDPAddr("udp", n.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		const most = 20000
		for i := range most { // 20 MB: more than all that holds any.
			b := make([]byte, 1000)
			b[0], b[1], b[2] = byte(i>>16), byte(i>>8), byte(i)
			if _, err := server.WriteTo(b, to); err != nil {
				t.Fatal(err)
			}
		}
		last, came := -1, 0
		b := make([]byte, 2000)
		_ = n.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			m, err := n.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			at := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
			if err != nil || m != 1000 || at <= last {
				t.Fatalf("%d bytes of number %d after %d: %v", m, at, last, err)
			}
			last, came = at, came+1
		}
		_ = n.SetReadDeadline(time.Time{})
		if _, err := server.WriteTo([]byte("end"), to); err != nil { // Brings the kernel's count.
			t.Fatal(err)
		}
		if m, err := n.Read(b); m != 3 || err != nil {
			t.Fatal(m, err)
		}
		lost := int(as[*client.UDPConn](t, n).Lost())
		t.Logf("%d came, %d lost", came, lost)
		if came < 4000 || came+lost != most || lost == 0 {
			t.Errorf("%d came and %d are lost, of %d", came, lost, most)
		}
	})
}

// A refusal is the error of a Read, once, and the connection goes on; other calls are as those
// of package net.
func TestUDPRefused(t *testing.T) {
	nstest.Run(t, func() {
		c := udpClient(t, wire.BulkSince)
		free := udpEcho(t, "udp", "127.0.0.1:0")
		at := free.LocalAddr().String()
		_ = free.Close()
		n, err := c.Dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		for range 3 {
			if _, err := n.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Read(b); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
		udpEcho(t, "udp", at)
		if _, err := n.Write([]byte("datagram")); err != nil {
			t.Fatal(err)
		}
		if m, err := n.Read(b[:4]); m != 4 || err != nil || string(b[:4]) != "data" {
			t.Fatalf("%q, %v", b[:m], err)
		}
		if _, err := n.Write(make([]byte, 65536)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Error(err)
		}
		if _, err := n.Write(make([]byte, 65508)); err != nil { // Too long for IPv4: the guest says so.
			t.Error(err)
		}
		if _, err := n.Read(b); !errors.Is(err, syscall.EMSGSIZE) {
			t.Error(err)
		}
		_ = n.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if _, err := n.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if _, err := n.Read(b); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Dial("udp", "no.such.name.invalid:9"); err == nil {
			t.Error("a name that nobody has")
		}
		if _, err := clientOf(t, wire.BulkSince, wire.Ready{}).Dial("udp", at); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("an agent without the extension: %v", err)
		}
	})
}

// What is no datagram ends its session, and nothing else; the host's end ends the socket.
func TestUDPSlips(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		echo := udpEcho(t, "udp", "127.0.0.1:0")
		port := uint16(as[*net.UDPAddr](t, echo.LocalAddr()).Port)
		base := descriptors(t)
		dial := func(id uint32) {
			h.send(id, &wire.TCPConnect{Host: "127.0.0.1", Port: port, UDP: true})
			if m, ok := h.next(id).Message.(*wire.TCPConnected); !ok || m.Remote != echo.LocalAddr().String() {
				t.Fatalf("%+v", m)
			}
		}
		dial(1)
		h.send(1, &wire.TCPData{Data: []byte{0, 1, 0, 0}})
		h.expect(1, "failed write TCP stream: want datagrams of at most 65527 bytes, each after a head of 4 bytes")
		dial(2)
		for _, b := range []byte{0, 0, 0, 1, 'x', 0, 0} { // In pieces; the last is not whole.
			h.send(2, &wire.TCPData{Data: []byte{b}})
		}
		if m, ok := h.next(2).Message.(*wire.TCPData); !ok || string(m.Data) != "\x00\x00\x00\x01x" {
			t.Errorf("%+v", m)
		}
		h.send(2, &wire.TCPEOF{})
		h.expect(2, "eof, closed")
		dial(3)
		h.send(3, &wire.TCPClose{})
		eventually(t, "the sockets are closed", func() bool { return descriptors(t) <= base })
		for id := range uint32(256) {
			dial(10 + id)
		}
		h.send(9, &wire.TCPConnect{Host: "127.0.0.1", Port: port, UDP: true})
		if m, ok := h.next(9).Message.(*wire.TCPFailed); !ok || !bytes.HasSuffix([]byte(m.Error), []byte("there are 256 UDP sockets already")) {
			t.Errorf("%+v", m)
		}
	})
}

var _ io.ReadWriteCloser = (*client.UDPConn)(nil)
