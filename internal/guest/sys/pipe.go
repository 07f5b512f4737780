package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReadPipe returns a pipe that the agent reads and a child writes: ours waits in the
// poller, theirs blocks as a program expects.
func ReadPipe() (ours, theirs *os.File, err error) {
	r, w, err := pipe()
	if err != nil {
		return nil, nil, err
	}
	ours, err = polled(r, "pipe")
	return ours, os.NewFile(uintptr(w), "pipe"), err
}

// WritePipe returns a pipe that the agent writes and a child reads.
func WritePipe() (ours, theirs *os.File, err error) {
	r, w, err := pipe()
	if err != nil {
		return nil, nil, err
	}
	ours, err = polled(w, "pipe")
	return ours, os.NewFile(uintptr(r), "pipe"), err
}

func pipe() (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, os.NewSyscallError("pipe", err)
	}
	return p[0], p[1], nil
}

// polled makes a file of fd whose operations wait in Go's poller.
func polled(fd int, name string) (*os.File, error) {
	// A new pipe has no other flag that could be lost. The call cannot fail on an open
	// descriptor.
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return os.NewFile(uintptr(fd), name), os.NewSyscallError("fcntl", err)
}
