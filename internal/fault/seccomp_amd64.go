package fault

import (
	"errors"
	"syscall"
	"unsafe"
)

// watched are the counted system calls: every call of a boot that is not the runtime's
// (memory, threads, polling), except close(2), whose errors leave nothing to undo.
var watched = map[uint32]string{
	0: "read", 1: "write", 5: "fstat", 16: "ioctl", 17: "pread64", 41: "socket", 44: "sendto", 45: "recvfrom", 49: "bind",
	54: "setsockopt", 80: "chdir", 91: "fchmod", 155: "pivot_root", 160: "setrlimit", 161: "chroot", 165: "mount",
	166: "umount2", 170: "sethostname", 217: "getdents64", 257: "openat", 258: "mkdirat", 262: "newfstatat", 263: "unlinkat",
	264: "renameat", 266: "symlinkat", 268: "fchmodat", 302: "prlimit64", 138: "fstatfs", 332: "statx", 428: "open_tree",
	429: "move_mount", 430: "fsopen", 431: "fsconfig", 432: "fsmount", 433: "fspick", 437: "openat2", 442: "mount_setattr",
	452: "fchmodat2",
}

// The parts of seccomp(2) and its filters that are used here (linux/seccomp.h,
// linux/bpf_common.h).
const (
	sysSeccomp    = 317
	setModeFilter = 1
	newListener   = 1 << 3
	allow         = 0x7fff0000
	notify        = 0x7fc00000

	bpfLoad  = 0x20 // A word of seccomp_data at K.
	bpfEqual = 0x15
	bpfRet   = 0x06

	offNumber   = 0
	offArgument = 16 // The lower half of the first argument.

	recvNotification = 0xc0502100
	sendNotification = 0xc0182101
	letThrough       = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE.
)

type instruction struct {
	code uint16
	_    uint8 // Jump offset if true: always the next instruction.
	jf   uint8
	k    uint32
}

// filter lets through calls that are not watched, and writes to standard error.
func filter() []instruction {
	const write, stderr = 1, 2
	program := []instruction{
		{code: bpfLoad, k: offNumber},
		{code: bpfEqual, k: write, jf: 4},
		{code: bpfLoad, k: offArgument},
		{code: bpfEqual, k: stderr, jf: 1},
		{code: bpfRet, k: allow},
		{code: bpfLoad, k: offNumber},
	}
	for number := range watched {
		program = append(program, instruction{code: bpfEqual, k: number, jf: 1}, instruction{code: bpfRet, k: notify})
	}
	return append(program, instruction{code: bpfRet, k: allow})
}

// Listen filters the calls of this thread, and of all threads and processes that it
// makes later, and returns the listener. The filter cannot be removed.
func Listen() (fd int, err error) {
	program := filter()
	prog := struct {
		length uint16
		first  *instruction
	}{uint16(len(program)), &program[0]}
	r, _, errno := syscall.RawSyscall(sysSeccomp, setModeFilter, newListener, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// A notification is struct seccomp_notif, a verdict struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	number     uint32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type verdict struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// readable waits a limited time for a notification, so that the caller can check
// whether more can come.
func readable(fd int) (bool, error) {
	const in, milliseconds = 1, 5
	p := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: in}
	_, _, errno := syscall.Syscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, milliseconds)
	if errno != 0 && errno != syscall.EINTR {
		return false, errno
	}
	return p.revents&in != 0, nil
}

// answer receives one call and lets it through or fails it, as judge decides.
func answer(fd int, judge func(number uint32) syscall.Errno) error {
	var call notification
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), recvNotification, uintptr(unsafe.Pointer(&call))); errno != 0 {
		return gone(errno)
	}
	reply := verdict{id: call.id, flags: letThrough}
	if errno := judge(call.number); errno != 0 {
		reply.flags, reply.errno = 0, -int32(errno)
	}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), sendNotification, uintptr(unsafe.Pointer(&reply)))
	return gone(errno)
}

// gone ignores the error for a caller that was interrupted meanwhile; it will call
// again.
func gone(errno syscall.Errno) error {
	if errno == 0 || errors.Is(errno, syscall.ENOENT) || errors.Is(errno, syscall.EINTR) {
		return nil
	}
	return errno
}
