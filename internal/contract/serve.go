package contract

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// The ports on which [Serve] has somebody who does as the lines say.
const (
	EchoPort  = 7001 + iota // Says what it hears.
	TailPort                // Hears all, then says that it got it.
	ByePort                 // Says bye and ends its half, hears all and says nothing.
	BreakPort               // Hears a byte and breaks the connection.
	FirstPort               // Says 4 MiB before it hears anything, then how much it heard.
	DeafPort                // Never hears anything.
)

// services are who serves.
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

// Serve listens on the loopback addresses for all services, says so once it does,
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
