package vmm

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	otherABI  = 1 << 31 // arm64 needs no such check: there is no other ABI.
)

var oldModeCalls []modeCall
