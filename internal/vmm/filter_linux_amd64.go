package vmm

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64

	// otherABI is the first number of x32 (__X32_SYSCALL_BIT).
	otherABI = 0x40000000
)

// oldModeCalls are the calls that newer architectures lack.
var oldModeCalls = []modeCall{
	{number: unix.SYS_CHMOD, mode: 1},
	{number: unix.SYS_CREAT, mode: 1},
	{number: unix.SYS_MKNOD, mode: 1},
	{number: unix.SYS_OPEN, mode: 2, creates: true},
}
