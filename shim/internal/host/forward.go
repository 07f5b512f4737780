package host

import (
	"errors"
	"fmt"
	"io"
	"net"
	"unsafe"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// forwardTable is the name of our table in the pod's network namespace.
const forwardTable = "agentd"

// ForwardLoopback takes the connections that are made to the loopback of the network
// namespace, and leads each to what connect returns for its port: a port forward of
// CRI goes to the loopback, and the containers that listen there are in the machine.
// Close ends it.
func ForwardLoopback(connect func(port int) (net.Conn, error), log func(string, ...any)) (io.Closer, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // Listening does not wait.
	if err != nil {
		return nil, err
	}
	addr, _ := l.Addr().(*net.TCPAddr)
	if err := redirectLoopback(uint16(addr.Port)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if err := carryForward(conn, connect); err != nil {
					log("port forward: %v", err)
				}
			}()
		}
	}()
	return l, nil
}

// redirectLoopback leads each connection over the loopback to one port.
func redirectLoopback(port uint16) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: forwardTable}
	c.AddTable(table) // There may be one of a shim before us.
	c.FlushTable(table)
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	const interfaceBytes = 16
	lo := make([]byte, interfaceBytes)
	copy(lo, "lo")
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: lo},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("redirect the loopback: %w", err)
	}
	return nil
}

func carryForward(conn net.Conn, connect func(port int) (net.Conn, error)) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	near, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("connection is a %T", conn)
	}
	port, err := originalPort(near)
	if err != nil {
		return err
	}
	far, err := connect(port)
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	defer func() { _ = far.Close() }()
	go func() {
		_, _ = io.Copy(far, near)
		if half, ok := far.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, _ = io.Copy(near, far)
	return nil
}

// originalPort is where a redirected connection was made to (SO_ORIGINAL_DST of
// linux/netfilter_ipv4.h, a sockaddr_in).
func originalPort(conn *net.TCPConn) (port int, err error) {
	const soOriginalDst = 80
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var addr unix.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(addr))
	var failed error
	err = raw.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IP, soOriginalDst,
			uintptr(unsafe.Pointer(&addr)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // The kernel fills it.
		if errno != 0 {
			failed = errno
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("ask for the port that was meant: %w", err)
	}
	b := (*[2]byte)(unsafe.Pointer(&addr.Port)) //nolint:gosec // In the order of the network.
	return int(b[0])<<8 | int(b[1]), nil
}
