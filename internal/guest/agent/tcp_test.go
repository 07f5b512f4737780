package agent_test

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/contract"
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
func peer(t *testing.T, serve func(*net.TCPConn)) uint16 {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
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

// said returns the messages on a connection's id up to its end, shortened.
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

// A peer that never reads delays nobody and stays out of memory; a close and a
// disconnect give everything back, and nothing is said any more.
//
//holds:wire 10: `closed` after both ends, nothing after; descriptors back
//holds:wire 10: a peer that never reads delays nobody; bounded memory
func TestTCPEnds(t *testing.T) {
	nstest.Run(t, func() {
		h := network(t)
		silent := make(chan struct{})
		t.Cleanup(func() { close(silent) })
		port := peer(t, func(*net.TCPConn) { <-silent })
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
		port := peer(t, echo)
		h.send(3, &wire.TCPConnect{Host: "127.0.0.1", Port: port})
		h.next(3)
		h.send(3, &wire.FSRequest{Op: &wire.OpStat{Path: "/"}})
		if _, r := h.response(3); contract.Outcome(r) != "id 3 has a session that runs" {
			t.Errorf("got %s", contract.Outcome(r))
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
