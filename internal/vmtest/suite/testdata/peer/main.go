// Command peer is what connections of a test meet inside the guest. It listens on
// a port of the loopback interface, says so and then serves by one of these ways:
//
//	echo   gives back what it gets, and the end of it
//	join   makes each two connections one, as a cable would
//	flood  sends zeros for ever
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(way, port string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		switch way {
		case "echo":
			go serve(c, c)
		case "flood":
			go flood(c)
		case "join":
			other, err := l.Accept()
			if err != nil {
				return err
			}
			go serve(c, other)
		default:
			return fmt.Errorf("no way is named %q", way)
		}
	}
}

// serve carries bytes between two connections, which may be the same, both ways.
func serve(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { carry(a, b) })
	if a != b {
		both.Go(func() { carry(b, a) })
	}
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

// carry carries one way; what ends or breaks there ends the other side's input.
func carry(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = from.Close()
	}
	_ = to.(*net.TCPConn).CloseWrite()
}

func flood(c net.Conn) {
	zeros := make([]byte, 64<<10)
	for {
		if _, err := c.Write(zeros); err != nil {
			_ = c.Close()
			return
		}
	}
}
