package sys

import (
	"net/netip"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Listener listens in the guest. It does not use package net, whose listeners would add
// 30 KiB to the agent. Close may be called once, while Accept waits.
type Listener struct {
	Address string // With the port that was chosen, or the name of the Unix socket.

	file *os.File
	raw  syscall.RawConn
	dir  int // The directory of a Unix socket's file, O_PATH; else -1.
	base string
}

// ListenTCP listens at an address, which is empty for all addresses. The network is "tcp", or
// "tcp4" or "tcp6" for one family.
func ListenTCP(network, host string, port uint16) (*Listener, error) {
	families := []int{syscall.AF_INET6, syscall.AF_INET} // The second if the kernel has no IPv6.
	ip := netip.IPv6Unspecified()
	if host != "" {
		var err error
		if ip, err = netip.ParseAddr(host); err != nil || ip.Zone() != "" {
			return nil, syscall.EINVAL
		}
	}
	switch {
	case network == "tcp4" || ip.Is4():
		families = families[1:]
	case network == "tcp6" || host != "":
		families = families[:1]
	}
	if host != "" && (ip.Is4() && network == "tcp6" || ip.Is6() && network == "tcp4") {
		return nil, syscall.EAFNOSUPPORT
	}
	for i, family := range families {
		l, err := listen(family, inet(family, ip, port), network == "tcp6")
		if err == nil || i == len(families)-1 {
			return l, err
		}
	}
	return nil, syscall.EAFNOSUPPORT
}

// inet is a socket's address. All addresses of one family are those of the other, too.
func inet(family int, ip netip.Addr, port uint16) syscall.Sockaddr {
	if family == syscall.AF_INET6 {
		return &syscall.SockaddrInet6{Addr: ip.As16(), Port: int(port)}
	}
	sa := &syscall.SockaddrInet4{Port: int(port)}
	if ip.Is4() {
		sa.Addr = ip.As4()
	}
	return sa
}

// ListenUnix listens at a name as DialUnix takes it, of which no file is there. Close removes
// the file.
func ListenUnix(name string) (*Listener, error) {
	if err := checkUnix(name); err != nil {
		return nil, err
	}
	dir := -1
	if name[0] == '/' {
		var err error
		if dir, err = unix.Open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
	}
	l, err := listen(syscall.AF_UNIX, &syscall.SockaddrUnix{Name: name}, false)
	if err != nil {
		closeDir(dir)
		return nil, err
	}
	l.Address, l.dir, l.base = name, dir, path.Base(name)
	return l, nil
}

// checkUnix refuses a name of a Unix socket that would not mean what it says.
func checkUnix(name string) error {
	switch {
	case len(name) > maxSocket:
		return syscall.ENAMETOOLONG
	case !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@"):
		return syscall.EINVAL // It would depend on the agent's directory.
	case strings.HasPrefix(name, "/") && strings.IndexByte(name, 0) >= 0:
		return syscall.EINVAL // The kernel would see only the part before.
	}
	return nil
}

// backlog is how many connections may wait for Accept; the kernel lowers it to
// /proc/sys/net/core/somaxconn.
const backlog = 4096

func listen(family int, at syscall.Sockaddr, only6 bool) (*Listener, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	l := &Listener{file: os.NewFile(uintptr(fd), "listener"), dir: -1}
	if err := l.bind(fd, family, at, only6); err != nil {
		_ = l.file.Close() // Report the other error.
		return nil, err
	}
	return l, nil
}

func (l *Listener) bind(fd, family int, at syscall.Sockaddr, only6 bool) (err error) {
	if family != syscall.AF_UNIX { // Connections of an earlier listener may still be closing.
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if family == syscall.AF_INET6 && err == nil {
		value := 0
		if only6 {
			value = 1
		}
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, value)
	}
	if err == nil {
		err = syscall.Bind(fd, at)
	}
	if err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err == nil {
		l.Address, err = localName(fd)
	}
	if err == nil {
		l.raw, err = l.file.SyscallConn()
	}
	return err
}

// Accept waits for the next connection, and returns the addresses of both ends.
func (l *Listener) Accept() (c Conn, local, remote string, err error) {
	fd, from := -1, syscall.Sockaddr(nil)
	closed := l.raw.Read(func(listener uintptr) bool {
		fd, from, err = syscall.Accept4(int(listener), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		switch err {
		case syscall.EAGAIN, syscall.ECONNABORTED, syscall.EINTR:
			return false
		}
		return true
	})
	if closed != nil {
		return nil, "", "", closed
	}
	if err != nil {
		return nil, "", "", err
	}
	local, _ = localName(fd) // Fails only if the connection has ended.
	return &stream{os.NewFile(uintptr(fd), "connection")}, local, name(from), nil
}

// Close ends the listener. It removes the file of a Unix socket from the directory in which
// it was made, also if another has that name by then, and only a socket: a program of the
// guest does not choose what is removed.
func (l *Listener) Close() error {
	var st unix.Stat_t
	if l.dir >= 0 && unix.Fstatat(l.dir, l.base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		_ = unix.Unlinkat(l.dir, l.base, 0) // Fails only if a program of the guest was quicker.
	}
	closeDir(l.dir)
	return l.file.Close()
}

func closeDir(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

func localName(fd int) (string, error) {
	sa, err := syscall.Getsockname(fd)
	return name(sa), err
}

// name is an address as text.
func name(sa syscall.Sockaddr) string {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String()
	case *syscall.SockaddrUnix:
		return sa.Name
	}
	return ""
}

// A stream is a connection that was accepted.
type stream struct{ *os.File }

// CloseWrite ends the direction to the peer.
func (s *stream) CloseWrite() error {
	return control(s, func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_WR) })
}

// ResetOnClose makes the end of a connection a reset; its peer takes nothing for whole.
func ResetOnClose(c Conn) error {
	return control(c, func(fd int) error {
		return syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	})
}
