// Command guest is what the benchmark runs in its machines: as the first process
// it does nothing but write and read the port, which gives the port's own limit; as
// a command it is the far end of a TCP connection.
//
//	guest serve PORT BYTES    accepts one connection and writes that much
//	guest sink PORT           accepts one connection and reads it to its end
//
// As the first process it takes orders of 13 bytes from the port: a letter, the
// size of a piece (4 bytes) and a number of bytes (8), both big-endian. After 'w'
// it writes that many bytes, after 'r' it reads them and answers with one byte.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/internal/guest/boot"
	"github.com/agentd-go/agentd/internal/guest/sys"
)

const (
	portName = "agent"
	// The port's name comes some 10 ms after the port.
	portInterval = 5 * time.Millisecond
	portDeadline = 10 * time.Second

	orderSize = 13
	// largest is the largest piece of an order.
	largest = 1 << 20
	// socketPiece is as much as a socket takes well in one call.
	socketPiece = 128 << 10
)

func main() {
	var err error
	switch {
	case os.Getpid() == 1:
		err = port()
	case len(os.Args) == 4 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "sink":
		err = sink(os.Args[2])
	default:
		err = errors.New("usage: guest serve PORT BYTES | sink PORT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

// port obeys orders. The descriptor blocks: nothing else runs here, and that is
// the fastest way.
func port() error {
	if err := boot.EarlyMounts(); err != nil {
		return err
	}
	device, err := find()
	if err != nil {
		return err
	}
	fd, err := syscall.Open(device, syscall.O_RDWR, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, largest)
	p := descriptor(fd)
	for {
		var order [orderSize]byte
		if _, err := io.ReadFull(p, order[:]); err != nil {
			return err
		}
		piece := min(int64(binary.BigEndian.Uint32(order[1:])), largest)
		if err := obey(p, order[0], buf[:piece], int64(binary.BigEndian.Uint64(order[5:]))); err != nil {
			return err
		}
	}
}

func obey(p descriptor, what byte, buf []byte, left int64) error {
	for left > 0 {
		act := p.Read
		if what == 'w' {
			act = p.Write
		}
		n, err := act(buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	if what == 'r' {
		_, err := p.Write([]byte{0})
		return err
	}
	return nil
}

func find() (string, error) {
	deadline := time.After(portDeadline)
	tick := time.NewTicker(portInterval)
	defer tick.Stop()
	for {
		device, err := sys.FindPort(portName)
		if err == nil {
			return device, nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return "", err
		}
	}
}

// A descriptor reads and writes by plain system calls. A Write may write less
// than all.
type descriptor int

func (d descriptor) Read(b []byte) (int, error)  { return again(syscall.Read, int(d), b) }
func (d descriptor) Write(b []byte) (int, error) { return again(syscall.Write, int(d), b) }

func again(call func(int, []byte) (int, error), fd int, b []byte) (int, error) {
	for {
		n, err := call(fd, b)
		if err != syscall.EINTR { //nolint:errorlint // The bare number.
			return max(n, 0), err
		}
	}
}

func accept(port string) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+port) //nolint:noctx // The program's only work.
	if err != nil {
		return nil, err
	}
	fmt.Println("listening")
	return l.Accept()
}

func serve(port, bytes string) error {
	left, err := strconv.Atoi(bytes)
	if err != nil {
		return err
	}
	c, err := accept(port)
	if err != nil {
		return err
	}
	for buf := make([]byte, socketPiece); left > 0 && err == nil; {
		var n int
		n, err = c.Write(buf[:min(left, len(buf))])
		left -= n
	}
	if err != nil {
		return err
	}
	return c.Close()
}

func sink(port string) error {
	c, err := accept(port)
	if err != nil {
		return err
	}
	var total int
	for buf := make([]byte, socketPiece); err == nil; {
		var n int
		n, err = c.Read(buf)
		total += n
	}
	fmt.Println(total)
	return nil
}
