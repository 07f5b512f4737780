package agent_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// network brings up what a guest has without a network, and returns a host.
func network(t *testing.T) *host {
	t.Helper()
	nstest.Root(t)
	if err := sys.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return newHost(t, config{})
}

// peer listens and serves each connection; it returns its port.
func peer(t *testing.T, address string, serve func(*net.TCPConn)) uint16 {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(address)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(c)
			}()
		}
	}()
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return at.Port()
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// said is what comes on a connection's id up to its end, shortened.
func (h *host) said(id uint32) string {
	h.t.Helper()
	var all []string
	var data []byte
	for {
		f := h.next(id)
		if m, ok := f.Message.(*wire.TCPData); ok {
			if len(m.Data) == 0 || len(m.Data) > 64<<10 {
				h.t.Errorf("a piece of %d bytes", len(m.Data))
			}
			data = append(data, m.Data...)
			continue
		}
		if data != nil {
			all, data = append(all, "data "+string(data)), nil
		}
		if m, ok := f.Message.(*wire.TCPFailed); ok {
			return strings.Join(append(all, "failed "+m.Error), ", ")
		}
		all = append(all, strings.TrimPrefix(string(f.Type), "core.tcp."))
		if f.Flags != 0 {
			return strings.Join(all, ", ")
		}
	}
}

func (h *host) expect(id uint32, want string) {
	h.t.Helper()
	if got := h.said(id); got != want {
		h.t.Errorf("id %d: %.300q, want %.300q", id, got, want)
	}
}

func TestTCPConnect(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		four, six := peer(t, "127.0.0.1", echo), peer(t, "::1", echo)
		for _, tt := range []struct {
			host string
			port uint16
			want string
		}{
			{"127.0.0.1", four, "connected, data hi, eof, closed"},
			{"localhost", four, "connected, data hi, eof, closed"},
			{"here", four, "connected, data hi, eof, closed"},
			{"::1", six, "connected, data hi, eof, closed"},
			{"127.0.0.1", 1, "failed connect 127.0.0.1:1: Connection refused (os error 111)"},
			{"127.0.0.1", 0, "failed connect 127.0.0.1:0: Connection refused (os error 111)"},
			{"::1", 1, "failed connect ::1:1: Connection refused (os error 111)"},
			{"192.0.2.1", 80, "failed connect 192.0.2.1:80: Network unreachable (os error 101)"},
			{strings.Repeat("n", 1<<20), 80, "failed connect " + strings.Repeat("n", 255) + ":80: failed to lookup address information: Name does not resolve"},
			{"", 80, "failed connect :80: failed to lookup address information: Name does not resolve"},
			{"256.1.1.1", 80, "failed connect 256.1.1.1:80: failed to lookup address information: Name does not resolve"},
			{"no.such.name", 80, "failed connect no.such.name:80: failed to lookup address information: Try again"},
		} {
			h.send(3, &wire.TCPConnect{Host: tt.host, Port: tt.port})
			if strings.HasPrefix(tt.want, "connected") {
				h.send(3, &wire.TCPData{Data: []byte{}}) // Nothing; and before the connection stands.
				h.send(3, &wire.TCPData{Data: []byte("hi")})
				h.send(3, &wire.TCPEOF{})
			}
			h.expect(3, tt.want)
		}
	})
}

func TestTCPHalfCloses(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		t.Run("ours first", func(t *testing.T) {
			h.t = t
			port := peer(t, "127.0.0.1", func(c *net.TCPConn) {
				b, _ := io.ReadAll(c)
				_, _ = c.Write(append([]byte("got "), b...))
			})
			h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
			h.send(3, &wire.TCPData{Data: []byte("all")})
			h.send(3, &wire.TCPEOF{})
			h.expect(3, "connected, data got all, eof, closed")
		})
		t.Run("theirs first", func(t *testing.T) {
			h.t = t
			got := make(chan string, 1)
			port := peer(t, "127.0.0.1", func(c *net.TCPConn) {
				_, _ = c.Write([]byte("bye"))
				_ = c.CloseWrite()
				b, _ := io.ReadAll(c)
				got <- string(b)
			})
			h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
			h.take("eof", func(f received) bool { return f.ID == 3 && f.Type == wire.TypeTCPEOF })
			h.send(3, &wire.TCPData{Data: []byte("still heard")})
			h.send(3, &wire.TCPEOF{})
			if s := <-got; s != "still heard" {
				t.Errorf("the peer got %q", s)
			}
			h.expect(3, "connected, data bye, closed")
		})
		t.Run("a peer that breaks", func(t *testing.T) {
			h.t = t
			port := peer(t, "127.0.0.1", func(c *net.TCPConn) {
				_ = c.SetLinger(0)
				_, _ = c.Read(make([]byte, 1))
			})
			h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
			h.send(3, &wire.TCPData{Data: []byte("xy")})
			h.expect(3, "connected, failed read TCP stream: Connection reset by peer (os error 104)")
		})
		t.Run("after the end", func(t *testing.T) {
			h.t = t
			eventually(t, "an answer to late data", func() bool {
				h.send(3, &wire.TCPData{Data: []byte("late")})
				h.ping()
				return h.kept(3, 4) > 0
			})
			h.expect(3, "failed unknown TCP session: 3")
			h.ping()
			h.drop(3, 4)
			h.send(3, &wire.TCPEOF{})
			h.send(3, &wire.TCPClose{})
			h.ping()
			if n := h.kept(3, 4); n != 0 {
				t.Errorf("%d answers to what needs none", n)
			}
		})
	})
}

// A peer that writes before it reads, and a host that does: nobody waits for the
// other.
func TestTCPBothWriteFirst(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		const size = 4 << 20
		theirs := bytes.Repeat([]byte("peer"), size/4)
		got := make(chan int64, 1)
		port := peer(t, "127.0.0.1", func(c *net.TCPConn) {
			_, _ = c.Write(theirs)
			_ = c.CloseWrite()
			n, _ := io.Copy(io.Discard, c)
			got <- n
		})
		h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
		for range 4 {
			h.send(3, &wire.TCPData{Data: make([]byte, size/4)})
		}
		h.send(3, &wire.TCPEOF{})
		h.expect(3, "connected, data "+string(theirs)+", eof, closed")
		if n := <-got; n != size {
			t.Errorf("the peer got %d bytes of %d", n, size)
		}
	})
}

// A peer that never reads delays nobody and stays out of memory; a close and a
// disconnect give everything back, and nothing is said any more.
func TestTCPEnds(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		silent := make(chan struct{})
		t.Cleanup(func() { close(silent) })
		port := peer(t, "127.0.0.1", func(*net.TCPConn) { <-silent })
		base, memory := descriptors(t), heap()
		const conns = 20
		for id := range uint32(conns) {
			h.send(id+1, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
			for range 4 {
				h.send(id+1, &wire.TCPData{Data: make([]byte, 1<<20)})
			}
			if took := h.ping(); took > prompt {
				t.Errorf("a ping took %v", took)
			}
		}
		if grown := heap() - memory; grown > bounded {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		for id := range uint32(conns) {
			if _, ok := h.next(id + 1).Message.(*wire.TCPConnected); !ok {
				t.Errorf("id %d is not connected", id+1)
			}
		}
		h.send(1, &wire.TCPClose{})
		h.send(1, &wire.TCPConnect{Host: "127.0.0.1", Port: 1}) // The id is free at once.
		h.expect(1, "failed connect 127.0.0.1:1: Connection refused (os error 111)")
		start, end := frame.SlotRange(0)
		h.send(0, &wire.ClientDisconnected{IDStart: start, IDEndExclusive: end})
		h.pingOther(0x02000001)
		begin := time.Now()
		eventually(t, "the sockets are closed", func() bool { return descriptors(t) <= base+conns }) // The peers' ends stay.
		if took := time.Since(begin); took > prompt {
			t.Errorf("took %v", took)
		}
		if n := h.kept(start, end); n != 0 {
			t.Errorf("%d frames for a client that has gone", n)
		}
	})
}

// A duplicate id is refused and the one that has it is undisturbed.
func TestIdsAreTaken(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		port := peer(t, "127.0.0.1", echo)
		h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
		h.next(3)
		h.send(3, &wire.FSRequest{Op: &wire.OpStat{Path: "/"}})
		if _, r := h.response(3); outcome(r) != "id 3 has a session that runs" {
			t.Errorf("got %s", outcome(r))
		}
		h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
		h.expect(3, "failed connect 127.0.0.1:"+strconv.Itoa(int(port))+": id 3 has a session that runs")
		h.send(3, &wire.FSData{Data: []byte("not for a connection")})
		h.send(3, &wire.ExecStdin{Data: []byte("nor this")})
		h.send(3, &wire.TCPData{Data: []byte("this")})
		h.send(3, &wire.TCPEOF{})
		h.expect(3, "data this, eof, closed")
	})
}
