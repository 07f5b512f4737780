package sys

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Reader reads a pipe, a terminal or a socket that is in Go's poller, with or without
// waiting. Its methods are for one goroutine.
//
// The runtime knows of its system calls, also of those that do not wait. A child that
// writes from memory of a dead mount holds the lock of its pipe, and a reader of the pipe
// then hangs with it. The runtime goes on without that thread.
type Reader struct {
	io.Reader
	raw syscall.RawConn
	try func(fd uintptr) bool

	// The call that is under way:
	b   []byte
	n   int
	err error
}

// NewReader returns a Reader of an open file or socket.
func NewReader(f interface {
	io.Reader
	syscall.Conn
},
) (*Reader, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &Reader{Reader: f, raw: raw}
	r.try = func(fd uintptr) bool {
		r.n, r.err = retry(func() (int, error) { return unix.Read(int(fd), r.b) })
		return true
	}
	return r, nil
}

// Try is Read without waiting: it returns 0 and no error if nothing is there yet, and
// io.EOF at the end.
func (r *Reader) Try(b []byte) (n int, err error) {
	r.b = b
	err = r.raw.Read(r.try)
	r.b = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(r.err, unix.EAGAIN):
		return 0, nil
	case r.err != nil:
		return 0, r.err
	case r.n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// Grow sets the size of a pipe and reports whether that succeeded. It fails without a
// change if the file is no pipe, if the size is not allowed, or if the pipe holds more.
func (r *Reader) Grow(size int) (grown bool) { return growPipe(r.raw, size) }

// GrowPipe is Grow for a pipe that the agent writes.
func GrowPipe(w syscall.Conn, size int) (grown bool) {
	raw, err := w.SyscallConn()
	return err == nil && growPipe(raw, size)
}

func growPipe(raw syscall.RawConn, size int) (grown bool) {
	_ = raw.Control(func(fd uintptr) { // What has been closed needs no room.
		_, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size)
		grown = err == nil
	})
	return grown
}
