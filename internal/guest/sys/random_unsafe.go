package sys

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A randPool is struct rand_pool_info of linux/random.h, with its buffer.
type randPool struct {
	entropyBits, size int32
	bytes             [64]byte
}

// Reseed gives the kernel's random generator new entropy and makes it use that at once
// (random(4)). Without the second step it would use its old state for a minute, and all
// machines with the same memory would get the same numbers.
func Reseed(entropy *[64]byte) (err error) {
	const bitsPerByte = 8
	f, err := os.OpenFile("/dev/urandom", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	pool := randPool{int32(len(entropy) * bitsPerByte), int32(len(entropy)), *entropy}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))) //nolint:gosec // G103: the call takes a structure.
	if errno != 0 {
		return os.NewSyscallError("add entropy", errno)
	}
	if _, err := ioctlInt(int(f.Fd()), unix.RNDRESEEDCRNG, 0); err != nil {
		return os.NewSyscallError("reseed the random generator", err)
	}
	return nil
}
