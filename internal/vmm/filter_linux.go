package vmm

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// setIDBits make a program run with the rights of its owner or group.
const setIDBits = unix.S_ISUID | unix.S_ISGID

// A modeCall is a system call that gives a file its mode.
type modeCall struct {
	number uint32
	mode   uint32 // Index of the mode argument.

	// creates says that the argument before the mode holds flags, and that the call has
	// a mode only if the flags create a file (open(2)).
	creates bool
}

// modeCalls exist on every architecture; oldModeCalls are the architecture's additional
// ones.
var modeCalls = []modeCall{
	{number: unix.SYS_FCHMOD, mode: 1},
	{number: unix.SYS_FCHMODAT, mode: 2},
	{number: unix.SYS_FCHMODAT2, mode: 2},
	{number: unix.SYS_MKNODAT, mode: 2},
	{number: unix.SYS_OPENAT, mode: 3, creates: true},
}

const (
	// Offsets in struct seccomp_data (seccomp(2)). An argument has 8 bytes; its lower
	// half comes first.
	dataNumber, dataArch, dataArgs, argBytes, word = 0, 4, 16, 8, 4

	// creating are the flags with which open(2) uses its mode.
	creating = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY

	refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// setIDFilter refuses, with EPERM, every system call that would give a file a
// set-user-ID or set-group-ID bit. A process that serves files to a guest runs under
// it. The guest chooses modes; if the server runs as root, such a file would be a
// program that makes any user of the host root.
//
// openat2(2) has its mode in memory, which a filter cannot read. The filter answers
// that the call does not exist, and virtiofsd then opens files as on older kernels. The
// filter also disables io_uring(7), which bypasses filters, and calls of another ABI,
// which have other numbers.
func setIDFilter() ([]bpf.RawInstruction, error) {
	f := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: word},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: refused},
		bpf.LoadAbsolute{Off: dataNumber, Size: word},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: otherABI, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_OPENAT2, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_IO_URING_SETUP, SkipTrue: 1},
		bpf.RetConstant{Val: unknown},
	}
	for _, c := range slices.Concat(modeCalls, oldModeCalls) {
		f = append(f, c.check()...)
	}
	return bpf.Assemble(append(f, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}))
}

// check returns instructions that judge this call and leave the call's number loaded
// for the next check.
func (c modeCall) check() []bpf.Instruction {
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	var looks []bpf.Instruction
	if c.creates {
		looks = append(looks, loadArgument(c.mode-1), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: creating, SkipTrue: 1}, allow)
	}
	looks = append(looks, loadArgument(c.mode), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: setIDBits, SkipTrue: 1}, allow, bpf.RetConstant{Val: refused})
	other := bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: c.number, SkipTrue: uint8(len(looks))}
	return append([]bpf.Instruction{other}, looks...)
}

func loadArgument(i uint32) bpf.Instruction {
	return bpf.LoadAbsolute{Off: dataArgs + argBytes*i, Size: word}
}
