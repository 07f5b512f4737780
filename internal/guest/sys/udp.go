package sys

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The heads of what a datagram connection gives and takes (protocol section 10.2): a kind,
// then the length of what follows.
const (
	kindDatagram = 0
	kindError    = 1 // The number of an error, four bytes.
	kindLost     = 2 // How many datagrams the kernel has dropped, four bytes.

	datagramHead = 4
	maxDatagram  = 65535 - 8 // The length of IPv6's payload, less UDP's head.

	// datagramBuffer is how much the kernel holds of a connection's datagrams while the agent
	// reads none. The kernel doubles it for what it needs beside the bytes (socket(7)).
	datagramBuffer = 1 << 20
)

// Datagrams is a UDP socket that is connected to one peer. As a stream it gives and takes its
// datagrams, each after a head, so that they have the same credit as other connections. A
// datagram that is not read waits in the kernel, and not here.
type Datagrams struct {
	net.Conn
	raw syscall.RawConn

	unread []byte // The rest of what was received last. For one goroutine, as drops is.
	drops  uint32

	unsent []byte       // The beginning of a datagram that comes in pieces. For one goroutine.
	failed atomic.Int32 // An error that a send was told, for the reader.
	over   atomic.Bool  // CloseWrite was called.
}

// buffers are for one datagram each. A socket has one only while it receives.
var buffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// DialUDP connects a UDP socket. Names are looked up as by DialTCP.
func DialUDP(ctx context.Context, host string, port uint16) (*Datagrams, error) {
	c, err := dialHost(ctx, "udp", host, port)
	if err != nil {
		return nil, err
	}
	d := &Datagrams{Conn: c}
	if d.raw, err = c.(*net.UDPConn).SyscallConn(); err == nil { //nolint:errcheck // What "udp" always gives.
		err = d.raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, unix.SO_RCVBUFFORCE, datagramBuffer) // Needs CAP_NET_ADMIN: else less is held.
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)                 // Linux has it since 2.6.33.
		})
	}
	return d, err
}

// SyscallConn returns the socket.
func (d *Datagrams) SyscallConn() (syscall.RawConn, error) { return d.raw, nil }

// Read waits for a datagram, and gives some of it.
func (d *Datagrams) Read(b []byte) (int, error) {
	for len(d.unread) == 0 {
		if err := d.receive(true); err != nil {
			return 0, err
		}
	}
	return d.take(b), nil
}

// Try is Read without waiting.
func (d *Datagrams) Try(b []byte) (n int, err error) {
	for n < len(b) {
		if len(d.unread) == 0 {
			err = d.receive(false)
		}
		if err != nil || len(d.unread) == 0 {
			return n, err
		}
		n += d.take(b[n:])
	}
	return n, nil
}

func (d *Datagrams) take(b []byte) int {
	n := copy(b, d.unread)
	d.unread = d.unread[n:]
	return n
}

// receive takes the next datagram, or an error of the socket, from the kernel. Without wait
// there may be none.
func (d *Datagrams) receive(wait bool) (err error) {
	ended := d.raw.Read(func(fd uintptr) bool {
		err = d.receiveNow(int(fd))
		return !wait || !errors.Is(err, syscall.EAGAIN)
	})
	switch {
	case errors.Is(ended, os.ErrDeadlineExceeded): // See send.
		_ = d.SetReadDeadline(time.Time{}) // Cannot fail: one was set.
		d.report(syscall.Errno(d.failed.Swap(0)))
		return nil
	case ended != nil && d.over.Load():
		return io.EOF
	case ended != nil:
		return ended
	case errors.Is(err, syscall.EAGAIN):
		return nil
	}
	return err
}

// receiveNow receives without waiting.
func (d *Datagrams) receiveNow(fd int) error {
	b := buffers.Get().(*[maxDatagram]byte) //nolint:errcheck // Of no other type.
	defer buffers.Put(b)
	var control [64]byte
	n, oob, _, _, err := unix.Recvmsg(fd, b[:], control[:], unix.MSG_DONTWAIT)
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // Of a system call.
		if errno == syscall.EAGAIN || errno == syscall.EINTR {
			return syscall.EAGAIN
		}
		d.report(errno)
		return nil
	}
	d.countDrops(control[:oob])
	d.unread = append(appendHead(d.unread, kindDatagram, n), b[:n]...)
	return nil
}

// report gives an error of the socket to the reader: a peer's refusal, for example. The
// socket goes on.
func (d *Datagrams) report(errno syscall.Errno) {
	if errno != 0 {
		d.unread = binary.BigEndian.AppendUint32(appendHead(d.unread, kindError, 4), uint32(errno))
	}
}

// countDrops reports the datagrams that the kernel has dropped since the last one. The
// kernel's count comes with a datagram, as the only control message: a head of 16 bytes, then
// the number (socket(7), SO_RXQ_OVFL).
func (d *Datagrams) countDrops(control []byte) {
	const at = unix.SizeofCmsghdr
	if len(control) < at+4 {
		return
	}
	if drops := binary.NativeEndian.Uint32(control[at:]); drops != d.drops {
		d.unread = binary.BigEndian.AppendUint32(appendHead(d.unread, kindLost, 4), drops-d.drops)
		d.drops = drops
	}
}

func appendHead(b []byte, kind byte, length int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(kind)<<24|uint32(length))
}

// errFraming says that the host's bytes are no datagrams.
var errFraming = errors.New("want datagrams of at most 65527 bytes, each after a head of 4 bytes")

// Write sends the datagrams that are whole, and keeps the rest for the next call.
func (d *Datagrams) Write(b []byte) (int, error) {
	all := b
	if len(d.unsent) > 0 {
		d.unsent = append(d.unsent, b...)
		all = d.unsent
	}
	for len(all) >= datagramHead {
		length := binary.BigEndian.Uint32(all)
		if length > maxDatagram {
			return 0, errFraming
		}
		end := datagramHead + int(length)
		if len(all) < end {
			break
		}
		if err := d.send(all[datagramHead:end]); err != nil {
			return 0, err
		}
		all = all[end:]
	}
	d.unsent = append([]byte(nil), all...)
	return len(b), nil
}

// send sends one datagram. An error of the socket goes to the reader; if it was the answer
// to an earlier datagram, the kernel has not taken this one yet.
func (d *Datagrams) send(b []byte) error {
	for range 2 {
		_, err := d.Conn.Write(b)
		errno, ok := errors.AsType[syscall.Errno](err)
		if !ok {
			return err // Of the connection, or none.
		}
		d.failed.Store(int32(errno))
		_ = d.SetReadDeadline(time.Unix(1, 0)) // Wakes the reader. Fails only after Close.
		if errno != syscall.ECONNREFUSED {
			break
		}
	}
	return nil //nolint:nilerr // The reader gets it.
}

// CloseWrite ends the connection: a datagram socket has no half that could go on.
func (d *Datagrams) CloseWrite() error {
	d.over.Store(true)
	return d.Close()
}
