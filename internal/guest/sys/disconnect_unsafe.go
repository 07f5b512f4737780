package sys

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Disconnect resets the TCP connections that other processes have with other hosts, for a
// machine whose network has forgotten them: a program that waits for an answer would wait
// for ever. Programs get ECONNRESET. It returns how many there were. A process that ends
// meanwhile, or a descriptor that is closed, is passed over.
func Disconnect() (reset int) {
	done := map[string]bool{}
	found, _ := filepath.Glob("/proc/[0-9]*") // The pattern is well formed.
	for _, dir := range found {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		reset += disconnect(pid, dir+"/fd", done)
	}
	return reset
}

// disconnect resets the connections of one process that are not done yet.
func disconnect(pid int, dir string, done map[string]bool) (reset int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	handle := -1
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || !strings.HasPrefix(name, "socket:") || done[name] {
			continue
		}
		done[name] = true
		if handle < 0 {
			if handle, err = unix.PidfdOpen(pid, 0); err != nil {
				return reset
			}
			defer func() { _ = unix.Close(handle) }()
		}
		if fd, err := strconv.Atoi(e.Name()); err == nil && resetPeer(handle, fd) {
			reset++
		}
	}
	return reset
}

// resetPeer resets one socket of another process, if it is a connection to another host.
func resetPeer(process, fd int) bool {
	ours, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(ours) }()
	protocol, err := unix.GetsockoptInt(ours, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || protocol != unix.IPPROTO_TCP || !isRemote(ours) {
		return false
	}
	// AF_UNSPEC dissolves a connection: the kernel sends a reset and tells the program
	// (tcp_disconnect of net/ipv4/tcp.c).
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(ours), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none)) //nolint:gosec // G103: the call takes a structure.
	if errno != 0 {
		return unix.Shutdown(ours, unix.SHUT_RDWR) == nil
	}
	return true
}

// isRemote reports whether a socket is connected to another host.
func isRemote(fd int) bool {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return false
	}
	var at netip.Addr
	switch p := peer.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrFrom4(p.Addr)
	case *unix.SockaddrInet6:
		at = netip.AddrFrom16(p.Addr).Unmap()
	default:
		return false
	}
	return !at.IsLoopback()
}
