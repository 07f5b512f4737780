package sys

import "golang.org/x/sys/unix"

// ioctlInt is an ioctl whose argument is an integer and whose answer is its
// return value, a form that package unix has no wrapper for.
func ioctlInt(fd int, request uint, arg int) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
