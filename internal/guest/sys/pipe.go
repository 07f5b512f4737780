package sys

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// An End is the descriptor of a pipe's other end, for a child. Go knows nothing of it, so it
// costs two system calls less than a file. Its owner closes it.
type End int

// Fd is the descriptor.
func (e End) Fd() uintptr { return uintptr(e) }

// Close closes the end.
func (e End) Close() error { return os.NewSyscallError("close", unix.Close(int(e))) }

// Chown makes a user the owner of the pipe.
func (e End) Chown(uid, gid int) error {
	return os.NewSyscallError("fchown", again(func() error { return unix.Fchown(int(e), uid, gid) }))
}

// OutputPipe is ReadPipe whose other end is no file.
func OutputPipe() (ours *os.File, theirs End, err error) {
	r, w, err := pipe()
	if err != nil {
		return nil, -1, err
	}
	ours, err = polled(r, "pipe")
	return ours, End(w), err
}

// InputPipe returns a pipe that the agent may write and a child reads.
func InputPipe() (ours *Input, theirs End, err error) {
	r, w, err := pipe()
	return &Input{fd: w}, End(r), err
}

// An Input is the agent's end of a pipe to a child. It joins the poller when it is first
// written to: most commands get no input. Its methods may be called at the same time.
type Input struct {
	mu     sync.Mutex
	fd     int
	file   *os.File // nil before the first Write.
	closed bool
}

// open returns the file, which is made when it is first needed.
func (i *Input) open() (*os.File, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var err error
	switch {
	case i.closed:
		return nil, os.ErrClosed
	case i.file == nil:
		i.file, err = polled(i.fd, "pipe")
	}
	return i.file, err
}

// Write waits until all of b has been written, or until Close.
func (i *Input) Write(b []byte) (int, error) {
	f, err := i.open()
	if err != nil {
		return 0, err
	}
	return f.Write(b)
}

// SyscallConn gives the descriptor to GrowPipe.
func (i *Input) SyscallConn() (syscall.RawConn, error) {
	f, err := i.open()
	if err != nil {
		return nil, err
	}
	return f.SyscallConn()
}

// Close closes the pipe and ends a Write that waits.
func (i *Input) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.closed:
		return os.ErrClosed
	case i.file == nil:
		i.closed = true
		return os.NewSyscallError("close", unix.Close(i.fd))
	}
	i.closed = true
	return i.file.Close()
}

// ReadPipe returns a pipe that the agent reads and a child writes: ours waits in the
// poller, theirs blocks as a program expects.
func ReadPipe() (ours, theirs *os.File, err error) {
	ours, end, err := OutputPipe()
	if ours == nil {
		return nil, nil, err
	}
	return ours, os.NewFile(end.Fd(), "pipe"), err
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
