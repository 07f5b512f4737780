package tree

import "golang.org/x/sys/unix"

// retry repeats a call that a signal interrupted (EINTR, signal(7)).
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR { //nolint:errorlint // A bare number.
			return v, err
		}
	}
}

// again is retry for calls that return only an error.
func again(call func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// openat opens a name of a directory, and never a link.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, mode)
	})
}

// Possible reports whether this system can pack and unpack.
const Possible = true

const openDir = unix.O_RDONLY | unix.O_DIRECTORY

func closeFD(fd int) { _ = unix.Close(fd) } // What was written is in the kernel already.
