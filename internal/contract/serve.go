package contract

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// The ports of [Serve] and what their servers do.
const (
	EchoPort  = 7001 + iota // Returns what it receives.
	TailPort                // Receives everything, then confirms it.
	ByePort                 // Sends bye and ends its half, then receives everything and sends nothing.
	BreakPort               // Receives a byte and resets the connection.
	FirstPort               // Sends 4 MiB before it receives anything, then the number of received bytes.
	DeafPort                // Never reads.
)

// services are the servers by port.
var services = map[int]func(*net.TCPConn){
	EchoPort: func(c *net.TCPConn) { _, _ = io.Copy(c, c) },
	TailPort: func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(append([]byte("got "), b...))
	},
	ByePort: func(c *net.TCPConn) {
		_, _ = c.Write([]byte("bye"))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	},
	BreakPort: func(c *net.TCPConn) {
		_ = c.SetLinger(0)
		_, _ = c.Read(make([]byte, 1))
	},
	FirstPort: func(c *net.TCPConn) {
		data := make([]byte, firstSize)
		for i := range data {
			data[i] = 'p'
		}
		_, _ = c.Write(data)
		n, _ := io.Copy(io.Discard, c)
		_, _ = fmt.Fprint(c, n)
	},
	DeafPort: func(*net.TCPConn) { select {} },
}

// Serve listens on the loopback addresses for all services, reports when it listens,
// and serves for ever.
func Serve(ready func()) error {
	var listeners []net.Listener
	for port := EchoPort; port <= DeafPort; port++ {
		for _, host := range []string{"127.0.0.1", "::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))) //nolint:noctx // It listens for ever.
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
		}
	}
	ended := make(chan error)
	for i, l := range listeners {
		go func() { ended <- accept(l, services[EchoPort+i/2]) }()
	}
	ready()
	return <-ended
}

func accept(l net.Listener, serve func(*net.TCPConn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return errors.New("a connection that is none of TCP")
		}
		go func() {
			defer func() { _ = tcp.Close() }() // Whoever is still there has been served.
			serve(tcp)
		}()
	}
}
