package client

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentd-go/agentd/wire"
)

const (
	// MaxDatagram is the longest datagram that UDP has: by IPv6. By IPv4 it is 20 bytes less.
	MaxDatagram = 65535 - 8

	// The kinds of what an agent gives (protocol section 10.2), and the head of each.
	datagramOf   = 0
	datagramErr  = 1
	datagramLost = 2
	datagramHead = 4
)

// A UDPConn is a UDP socket in the guest that is connected to one address: a [net.Conn] of
// which each Read gives one datagram and each Write sends one, also an empty one. A Read into
// too little room loses the rest of the datagram, as with [net.UDPConn].
//
// An answer such as "port unreachable" is the error of one Read, [syscall.ECONNREFUSED] for
// example, and the connection goes on. What is not read waits here, up to [ConnLimit], and then
// in the guest's kernel, up to 1 MiB with its own costs. What does not fit is lost: see Lost.
type UDPConn struct {
	conn *Conn
	lost atomic.Uint64

	reading sync.Mutex
	head    [datagramHead]byte
	got     int    // Bytes of the head, then of body, that have come.
	body    []byte // nil while the head comes.

	writing sync.Mutex
	rest    []byte // Of a datagram whose Write passed its deadline: the stream must stay whole.
}

// udpRequest makes the request for a UDP socket, from that for a connection.
func (c *Client) udpRequest(req *wire.TCPConnect) (*wire.TCPConnect, error) {
	req.UDP = true
	return req, c.needs(ExtensionUDP, "a UDP socket in the guest")
}

// Read waits for the next datagram, or for an error of the socket.
func (u *UDPConn) Read(p []byte) (int, error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	for {
		kind, body, err := u.next()
		switch {
		case err == io.EOF: //nolint:errorlint // Of Conn.Read, and bare.
			return 0, u.conn.opError("read", io.ErrUnexpectedEOF) // A datagram socket has no end.
		case err != nil:
			return 0, err
		case kind == datagramOf:
			return copy(p, body), nil
		case kind == datagramLost && len(body) == 4:
			u.lost.Add(uint64(binary.BigEndian.Uint32(body)))
		case kind == datagramErr && len(body) == 4:
			errno := syscall.Errno(binary.BigEndian.Uint32(body))
			return 0, u.conn.opError("read", &GuestError{Message: errnoText(errno), Errno: errno})
		default:
			u.conn.abort(&FrameError{Type: string(wire.TypeTCPData), Err: errUnexpected})
		}
	}
}

// errnoText is the text of an error that sockets have, whatever system this is.
func errnoText(errno syscall.Errno) string {
	text, ok := map[syscall.Errno]string{
		eperm: "operation not permitted", eacces: "permission denied", emsgsize: "message too long",
		101: "network is unreachable", econnrefused: "connection refused", 112: "host is down", 113: "no route to host",
	}[errno]
	if !ok {
		return fmt.Sprintf("error %d", int(errno))
	}
	return text
}

// next reads what comes next. After an error, such as that of a deadline, the next call goes
// on where this one was.
func (u *UDPConn) next() (kind byte, body []byte, err error) {
	if u.body == nil {
		if err := u.fill(u.head[:]); err != nil {
			return 0, nil, err
		}
		length := binary.BigEndian.Uint32(u.head[:]) & 0xFFFFFF
		if length > MaxDatagram {
			err := &FrameError{Type: string(wire.TypeTCPData), Err: errUnexpected}
			u.conn.abort(err)
			return 0, nil, u.conn.opError("read", err)
		}
		u.got, u.body = 0, make([]byte, length)
	}
	if err := u.fill(u.body); err != nil {
		return 0, nil, err
	}
	body = u.body
	u.got, u.body = 0, nil
	return u.head[0], body, nil
}

func (u *UDPConn) fill(p []byte) error {
	for u.got < len(p) {
		n, err := u.conn.Read(p[u.got:])
		if u.got += n; err != nil {
			return err
		}
	}
	return nil
}

// Write sends one datagram. It waits while the guest does not take it.
func (u *UDPConn) Write(p []byte) (int, error) {
	if len(p) > MaxDatagram {
		return 0, u.conn.opError("write", emsgsize)
	}
	u.writing.Lock()
	defer u.writing.Unlock()
	if err := u.flush(); err != nil {
		return 0, err
	}
	u.rest = append(binary.BigEndian.AppendUint32(make([]byte, 0, datagramHead+len(p)), uint32(len(p))), p...)
	whole := len(u.rest)
	if err := u.flush(); err != nil {
		if len(u.rest) == whole {
			u.rest = nil // Nothing of it has left.
		}
		return 0, err
	}
	return len(p), nil
}

// flush sends what is left of a datagram.
func (u *UDPConn) flush() error {
	for len(u.rest) > 0 {
		n, err := u.conn.Write(u.rest)
		if u.rest = u.rest[n:]; err != nil {
			return err
		}
	}
	return nil
}

// Lost returns how many datagrams the guest's kernel has dropped because they were not read
// in time, as far as later ones have told it.
func (u *UDPConn) Lost() uint64 { return u.lost.Load() }

// Close ends the connection; datagrams that were written are still sent.
func (u *UDPConn) Close() error { return u.conn.Close() }

// LocalAddr returns the address of the socket in the guest.
func (u *UDPConn) LocalAddr() net.Addr { return u.conn.LocalAddr() }

// RemoteAddr returns the address that the guest has connected to.
func (u *UDPConn) RemoteAddr() net.Addr { return u.conn.RemoteAddr() }

// SetDeadline sets both deadlines.
func (u *UDPConn) SetDeadline(t time.Time) error { return u.conn.SetDeadline(t) }

// SetReadDeadline sets the time at which Reads stop waiting; zero means never.
func (u *UDPConn) SetReadDeadline(t time.Time) error { return u.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the time at which Writes stop waiting; zero means never.
func (u *UDPConn) SetWriteDeadline(t time.Time) error { return u.conn.SetWriteDeadline(t) }
