package machines_test

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/internal/machines"
)

// Each peer of a UDP port has a way of its own, by which its answers come back whole.
func TestForwardUDP(t *testing.T) {
	var config net.ListenConfig
	server, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo([]byte(strings.ToUpper(string(b[:n]))), from)
		}
	}()
	p := machines.Port{Host: "127.0.0.1:0", Guest: server.LocalAddr().String(), Protocol: "udp"}
	e, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := e.Forward(new(net.Dialer), func(line string) { t.Log(line) })
	var peers []net.Conn
	for range 20 {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "udp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		peers = append(peers, c)
	}
	b := make([]byte, 100)
	for round := range 3 {
		for i, c := range peers {
			text := "a" + strconv.Itoa(round) + "b" + strconv.Itoa(i)
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(b); err != nil || string(b[:n]) != strings.ToUpper(text) {
				t.Fatalf("%q, %v", b[:n], err)
			}
		}
	}
	if _, err := peers[0].Write(nil); err != nil { // An empty datagram is one, too.
		t.Fatal(err)
	}
	if n, err := peers[0].Read(b); n != 0 || err != nil {
		t.Error(n, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	again, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	_ = server.Close()
}
