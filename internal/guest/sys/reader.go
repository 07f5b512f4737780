package sys

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Reader reads a pipe, a terminal or a socket that is in Go's poller, and can
// also ask whether there is more without waiting. Its methods are for one
// goroutine.
//
// They are system calls that the runtime knows of, also where they do not wait: a
// child that writes from memory which cannot be read in (a dead mount) keeps the
// lock of its pipe, and whoever reads the pipe then hangs with it. The runtime
// goes on without that thread.
type Reader struct {
	io.Reader
	raw syscall.RawConn
	try func(fd uintptr) bool

	// The call that is under way:
	b   []byte
	n   int
	err error
}

// NewReader returns a Reader of what is open.
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

// Try is Read without waiting: it returns 0 and no error where nothing is there
// yet, io.EOF at the end.
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

// Grow gives a pipe room for size bytes and reports whether it has it then. What is
// no pipe, may not be larger, or holds more already, stays as it is.
func (r *Reader) Grow(size int) (grown bool) { return growPipe(r.raw, size) }

// GrowPipe is Grow for a pipe that is written to.
func GrowPipe(w *os.File, size int) (grown bool) {
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
