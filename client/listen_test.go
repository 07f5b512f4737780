package client_test

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A listener listens at the same address on the next link, once the guest has closed the old
// one there; and only the caller's Close is net.ErrClosed.
func TestRelisten(t *testing.T) {
	const at = "127.0.0.1:4000"
	again := &wire.TCPConnect{Host: "127.0.0.1", Port: 4000, Listen: "tcp"}
	reconnected(t, []func(*peer){
		func(p *peer) {
			id := p.expect(&wire.TCPConnect{Host: "127.0.0.1", Listen: "tcp"})
			p.send(id, &wire.TCPConnected{Local: at})
			p.expect(&wire.TCPConnect{Listener: &id})
		},
		func(p *peer) {
			p.send(p.expect(again), &wire.TCPFailed{Error: "listen: Address already in use (os error 98)"})
			id := p.expect(again)
			p.send(id, &wire.TCPConnected{Local: at})
			p.send(p.expect(&wire.TCPConnect{Listener: &id}), &wire.TCPConnected{Local: at, Remote: "[::1]:9"})
			p.expect(&wire.TCPEOF{})
			p.send(id, &wire.TCPClosed{})
		},
	}, func(t *testing.T, r *client.Reconnector) {
		t.Helper()
		l, err := r.Listen(t.Context(), "tcp", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		n, err := l.Accept()
		if err != nil || n.LocalAddr().String() != at || n.RemoteAddr().String() != "[::1]:9" {
			t.Fatal(n, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// A connection that the guest could not give does not end a server.
func TestAcceptFails(t *testing.T) {
	scriptReady(t, 7, keeps, func(c *client.Client, p *peer) {
		wait := background(func() {
			id := p.expect(&wire.TCPConnect{Host: "", Port: 80, Listen: "tcp6"})
			p.send(id, &wire.TCPConnected{Local: "[::]:80"})
			p.send(p.expect(&wire.TCPConnect{Listener: &id}), &wire.TCPFailed{Error: "accept: No file descriptors available (os error 24)"})
			p.expect(&wire.TCPConnect{Listener: &id}) // The server asks for the next.
			p.send(id, &wire.TCPFailed{Error: "listen: why"})
		})
		l, err := c.Listen("tcp6", ":80")
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: http.NotFoundHandler()}
		if err := server.Serve(l); err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EMFILE) {
			t.Errorf("the server ended with %v", err)
		}
		wait()
	})
}
