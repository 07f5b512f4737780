package sys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Netlink is a connection to the kernel's network configuration
// (rtnetlink(7)). It makes one request at a time.
type Netlink struct {
	fd     int
	seq    uint32
	buffer []byte // For one datagram of answers.
}

// OpenNetlink connects to the kernel.
func OpenNetlink() (*Netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	const largest = 32 << 10 // NLMSG_GOODSIZE of a dump is at most this (net/netlink/af_netlink.c).
	return &Netlink{fd: fd, buffer: make([]byte, largest)}, nil
}

// Close closes the connection.
func (n *Netlink) Close() error { return os.NewSyscallError("close", unix.Close(n.fd)) }

// order is the byte order of numbers in netlink messages: the processor's.
var order = binary.NativeEndian

// align pads a message or an attribute to four bytes (NLMSG_ALIGNTO, RTA_ALIGNTO).
func align(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// attribute appends one attribute: its length, its type, its value.
func attribute(b []byte, typ uint16, value []byte) []byte {
	b = order.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = order.AppendUint16(b, typ)
	return align(append(b, value...))
}

func number(n uint32) []byte { return order.AppendUint32(nil, n) }

// request sends one message and returns the bodies of the answers, up to the final one.
func (n *Netlink) request(typ, flags uint16, body []byte) (answers [][]byte, err error) {
	n.seq++
	message := order.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = order.AppendUint16(message, typ)
	message = order.AppendUint16(message, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	message = order.AppendUint32(message, n.seq)
	message = order.AppendUint32(message, 0) // The port: the kernel fills it in.
	message = append(message, body...)
	if _, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.Sendto(n.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	for done := false; !done; {
		if answers, done, err = n.receive(answers); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// receive takes one datagram of answers. It never waits: the kernel puts an answer
// into the socket before the sendto of the request returns, and the rest of a long
// one when the part before it is taken.
func (n *Netlink) receive(answers [][]byte) (_ [][]byte, done bool, err error) {
	b := n.buffer
	size, err := retry(func() (int, error) {
		size, _, err := unix.Recvfrom(n.fd, b, unix.MSG_DONTWAIT)
		return size, err
	})
	if errors.Is(err, unix.EAGAIN) {
		return nil, false, errors.New("netlink: the kernel has not answered")
	}
	if err != nil {
		return nil, false, os.NewSyscallError("recvfrom", err)
	}
	for b = b[:size]; len(b) >= unix.SizeofNlMsghdr && !done; {
		length := int(order.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return nil, false, errors.New("netlink: malformed answer")
		}
		typ, seq, body := order.Uint16(b[4:]), order.Uint32(b[8:]), b[unix.SizeofNlMsghdr:length]
		b = b[min(len(b), (length+3)&^3):]
		if seq != n.seq {
			continue // An answer to a request that was given up.
		}
		if typ == unix.NLMSG_ERROR || typ == unix.NLMSG_DONE {
			done, err = true, outcome(body)
		} else {
			answers = append(answers, bytes.Clone(body))
		}
	}
	return answers, done, err
}

// outcome decodes an error or a done message: a negative error number, or 0 for success.
func outcome(body []byte) error {
	if len(body) < 4 {
		return errors.New("netlink: malformed answer")
	}
	if code := int32(order.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// typeMask removes the flags from an attribute's type (NLA_TYPE_MASK, netlink(7)).
const typeMask = 1<<14 - 1

// eachAttribute calls yield for each attribute of b.
func eachAttribute(b []byte, yield func(typ uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(order.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return
		}
		yield(order.Uint16(b[2:])&typeMask, b[unix.SizeofRtAttr:length])
		b = b[min(len(b), (length+3)&^3):]
	}
}
