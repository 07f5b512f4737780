package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nothing is the address of a handler that returns at once (signal.s).
var nothing uintptr

// An action is the kernel's sigaction, as amd64 and arm64 have it.
type action struct {
	handler, flags, restorer, mask uintptr
}

const (
	maskSize = 8  // Bytes in the kernel's mask.
	borrowed = 35 // A signal that the runtime handles: its flags and restorer fit any signal.
)

// unhandled are the signals that the runtime leaves to C libraries: 32 and 34, and 33 if
// the runtime does not use it itself.
var unhandled = []uintptr{32, 33, 34}

// outliveUnhandled catches the signals that [signal.Notify] cannot. Linux drops a signal
// that would end PID 1 when it is sent, but not while the first thread blocks it, as the
// runtime does for moments: then the process ends by it.
func outliveUnhandled() error {
	var like action
	if err := sigaction(borrowed, nil, &like); err != nil {
		return err
	}
	like.handler = nothing
	for _, number := range unhandled {
		var is action
		if err := sigaction(number, nil, &is); err != nil {
			return err
		}
		if is.handler != 0 {
			continue // It has a handler already.
		}
		if err := sigaction(number, &like, nil); err != nil {
			return err
		}
	}
	return nil
}

func sigaction(number uintptr, set, old *action) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, number, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), maskSize, 0, 0) //nolint:gosec // G103: no other way leads there.
	if errno != 0 {
		return errno
	}
	return nil
}
