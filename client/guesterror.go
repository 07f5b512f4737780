package client

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// A GuestError is the guest's error about a file or connection. The protocol has no codes
// for these: Errno is read from the text.
//
// It is [fs.ErrNotExist], [fs.ErrPermission], [fs.ErrExist] or [errors.ErrUnsupported] by the same rules as
// a [syscall.Errno] on Linux, whatever system this is.
type GuestError struct {
	Message string        // As the agent said it.
	Errno   syscall.Errno // Linux's number; 0 if the text has none and means none.
}

// Error returns the message without the name of the operation at its beginning: the error
// that wraps this one names the operation.
func (e *GuestError) Error() string {
	what, rest, ok := strings.Cut(e.Message, ": ")
	word := strings.Trim(what, "abcdefghijklmnopqrstuvwxyz_") == ""
	if !ok || (!word && !strings.HasPrefix(what, "connect ")) {
		return e.Message
	}
	return rest
}

// Linux's numbers of the errors that have a meaning in package fs or here.
const (
	eperm        syscall.Errno = 1
	enoent       syscall.Errno = 2
	ebadf        syscall.Errno = 9
	eagain       syscall.Errno = 11
	eacces       syscall.Errno = 13
	ebusy        syscall.Errno = 16
	eexist       syscall.Errno = 17
	enotdir      syscall.Errno = 20
	eisdir       syscall.Errno = 21
	einval       syscall.Errno = 22
	emfile       syscall.Errno = 24
	epipe        syscall.Errno = 32
	emsgsize     syscall.Errno = 90
	enosys       syscall.Errno = 38
	enotempty    syscall.Errno = 39
	enotsup      syscall.Errno = 95
	econnrefused syscall.Errno = 111
	etimedout    syscall.Errno = 110
	eaddrinuse   syscall.Errno = 98
)

// Is reports whether the error is one of those named above.
func (e *GuestError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Errno == enoent
	case fs.ErrPermission:
		return e.Errno == eacces || e.Errno == eperm
	case fs.ErrExist:
		return e.Errno == eexist || e.Errno == enotempty
	case errors.ErrUnsupported:
		return e.Errno == enosys || e.Errno == enotsup
	default:
		return false
	}
}

// Unwrap returns Errno, or nil if it is 0.
func (e *GuestError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Timeout reports whether the guest gave up after a time.
func (e *GuestError) Timeout() bool { return e.Errno == etimedout }

// refusals are the agents' own texts, and the error number that a system call has for the
// same (protocol sections 9.7 and 10).
var refusals = []struct {
	words string
	errno syscall.Errno
}{
	{"invalid handle", ebadf},
	{"is not open for", ebadf},
	{"must specify at least one of read, write", einval},
	{"creating or truncating a file requires", einval},
	{"too many open filesystem handles", emfile},
	{"unexpected NUL byte", einval},
	{"nul byte found in provided data", einval},
	{"neither a regular file nor a symlink", einval},
	{"timed out", etimedout},
}

// newGuestError makes an error of the agent's words.
func newGuestError(message string) *GuestError {
	return &GuestError{Message: message, Errno: errnoIn(message)}
}

// errnoIn finds the number in "TEXT (os error N)", which ends the text.
func errnoIn(message string) syscall.Errno {
	const mark = "(os error "
	if i := strings.LastIndex(message, mark); i >= 0 {
		digits, _, _ := strings.Cut(message[i+len(mark):], ")")
		// 4095 is the largest error number that Linux can return.
		if n, err := strconv.ParseUint(digits, 10, 12); err == nil {
			return syscall.Errno(n)
		}
	}
	for _, r := range refusals {
		if strings.Contains(message, r.words) {
			return r.errno
		}
	}
	return 0
}
