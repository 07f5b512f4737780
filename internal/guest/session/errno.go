package session

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/wire"
)

// errnoInfo has the protocol's text, name and kind of an error number. The texts are
// those of the C library of the reference agents: hosts look for words in them.
type errnoInfo struct {
	errno syscall.Errno
	name  string // "" where the protocol has none.
	text  string
	kind  wire.FailureKind
}

var errnos = [...]errnoInfo{
	{syscall.EPERM, "EPERM", "Operation not permitted", wire.FailurePermissionDenied},
	{syscall.ENOENT, "ENOENT", "No such file or directory", wire.FailureNotFound},
	{syscall.EIO, "EIO", "I/O error", wire.FailureOther},
	{syscall.ENXIO, "ENXIO", "No such device or address", wire.FailureOther},
	{syscall.E2BIG, "E2BIG", "Argument list too long", wire.FailureBadArgs},
	{syscall.ENOEXEC, "ENOEXEC", "Exec format error", wire.FailureNotExecutable},
	{syscall.EBADF, "EBADF", "Bad file descriptor", wire.FailureOther},
	{syscall.EAGAIN, "EAGAIN", "Resource temporarily unavailable", wire.FailureResourceLimit},
	{syscall.ENOMEM, "ENOMEM", "Out of memory", wire.FailureOutOfMemory},
	{syscall.EACCES, "EACCES", "Permission denied", wire.FailurePermissionDenied},
	{syscall.EFAULT, "EFAULT", "Bad address", wire.FailureBadArgs},
	{syscall.EBUSY, "EBUSY", "Resource busy", wire.FailureOther},
	{syscall.EEXIST, "", "File exists", wire.FailureOther},
	{syscall.ENOTDIR, "ENOTDIR", "Not a directory", wire.FailureNotFound},
	{syscall.EISDIR, "EISDIR", "Is a directory", wire.FailureNotExecutable},
	{syscall.EINVAL, "EINVAL", "Invalid argument", wire.FailureOther},
	{syscall.ENFILE, "ENFILE", "Too many open files in system", wire.FailureResourceLimit},
	{syscall.EMFILE, "EMFILE", "No file descriptors available", wire.FailureResourceLimit},
	{syscall.ETXTBSY, "ETXTBSY", "Text file busy", wire.FailureNotExecutable},
	{syscall.EFBIG, "", "File too large", wire.FailureOther},
	{syscall.ENOSPC, "", "No space left on device", wire.FailureOther},
	{syscall.ESPIPE, "", "Invalid seek", wire.FailureOther},
	{syscall.EROFS, "", "Read-only file system", wire.FailureOther},
	{syscall.EPIPE, "", "Broken pipe", wire.FailureOther},
	{syscall.ENAMETOOLONG, "ENAMETOOLONG", "Filename too long", wire.FailureBadArgs},
	{syscall.ENOSYS, "ENOSYS", "Function not implemented", wire.FailureOther},
	{syscall.ENOTEMPTY, "", "Directory not empty", wire.FailureOther},
	{syscall.ELOOP, "ELOOP", "Symbolic link loop", wire.FailureBadArgs},
	{syscall.ENETUNREACH, "", "Network unreachable", wire.FailureOther},
	{syscall.ECONNREFUSED, "", "Connection refused", wire.FailureOther},
	{syscall.ECONNRESET, "", "Connection reset by peer", wire.FailureOther},
	{syscall.ETIMEDOUT, "", "Operation timed out", wire.FailureOther},
	{syscall.EHOSTUNREACH, "", "Host is unreachable", wire.FailureOther},
	{syscall.EXDEV, "", "Cross-device link", wire.FailureOther},
	{syscall.ENODEV, "", "No such device", wire.FailureOther},
	{syscall.ENODATA, "", "No data available", wire.FailureOther},
	{syscall.ENOTSUP, "", "Not supported", wire.FailureOther},
	{syscall.ESTALE, "", "Stale file handle", wire.FailureOther},
	{syscall.EDQUOT, "", "Quota exceeded", wire.FailureOther},
}

// infoOf finds an error number in the list. A map would be built at each start of the
// agent, while its host waits.
func infoOf(errno syscall.Errno) (info errnoInfo, ok bool) {
	for _, info := range errnos {
		if info.errno == errno {
			return info, true
		}
	}
	return errnoInfo{}, false
}

// Describe returns an error number in the protocol's form, TEXT (os error N).
func Describe(errno syscall.Errno) string {
	info, _ := infoOf(errno)
	text := info.text
	if text == "" {
		text = errno.Error()
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return fmt.Sprintf("%s (os error %d)", text, int(errno))
}

// KindOf is the failure kind of an error number.
func KindOf(errno syscall.Errno) wire.FailureKind {
	if info, ok := infoOf(errno); ok {
		return info.kind
	}
	return wire.FailureOther
}

// NameOf is the name of an error number, "" where the protocol has none.
func NameOf(errno syscall.Errno) string {
	info, _ := infoOf(errno)
	return info.name
}

// A WholeError is an error whose text is complete: Failure adds no prefix to it.
type WholeError string

func (e WholeError) Error() string { return string(e) }

func isWhole(err error) bool {
	_, whole := errors.AsType[WholeError](err)
	_, flow := errors.AsType[*flowError](err)
	return whole || flow
}

// Reason returns an error's text in the form of the protocol.
func Reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return Describe(errno)
	}
	return err.Error()
}

// Failure puts before an error the part of the operation that failed; nil stays nil.
func Failure(prefix string, err error) error {
	if err == nil {
		return nil
	}
	if isWhole(err) {
		return err
	}
	return errors.New(prefix + Reason(err))
}
