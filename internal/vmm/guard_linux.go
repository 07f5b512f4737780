package vmm

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Runs before main, because a program that imports this package does not know that it
// also serves as the guard (see guardWord).
func init() {
	const least = 3 // This program, guardWord, and the program to execute.
	if len(os.Args) < least || os.Args[1] != guardWord {
		return
	}
	fmt.Fprintln(os.Stderr, "no set-user-ID files in shares:", guard(os.Args[2:]))
	os.Exit(1)
}

// guard returns only with an error.
func guard(argv []string) error {
	filter, err := setIDFilter()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // Both settings are the thread's.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", err)
	}
	// bpf.RawInstruction has the layout of struct sock_filter.
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))} //nolint:gosec // As above; some sixty.
	//nolint:gosec // The kernel copies the program.
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return os.NewSyscallError("seccomp SECCOMP_SET_MODE_FILTER", errno)
	}
	return &os.PathError{Op: "exec", Path: argv[0], Err: syscall.Exec(argv[0], argv, os.Environ())} //nolint:gosec // virtiofsd, found by this package.
}
