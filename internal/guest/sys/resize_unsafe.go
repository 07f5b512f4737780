package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// resizeExt4 is the ioctl EXT4_IOC_RESIZE_FS (fs/ext4/ioctl.c), which package unix has no
// wrapper for: its argument is the number of blocks, by a pointer.
func resizeExt4(fd int, blocks uint64) error {
	const resize = 0x40086610                                                                          // _IOW('f', 16, __u64)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), resize, uintptr(unsafe.Pointer(&blocks))) //nolint:gosec // G103: the one call that this file is for.
	if errno != 0 {
		return errno
	}
	return nil
}
