package vmm

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	otherABI  = 1 << 31 // There is none.
)

var oldModeCalls []modeCall
