//go:build unix

package relay

import "syscall"

// restrict gives the socket its mode.
func restrict(fd uintptr) error { return syscall.Fchmod(int(fd), socketMode) }
