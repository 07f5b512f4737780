package session

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/wire"
)

// errnoInfo is what the protocol says about an error number. The texts are those
// of the C library of the reference agents: hosts look for words in them.
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
	{syscall.ENOTSUP, "", "Not supported", wire.FailureOther},
	{syscall.ESTALE, "", "Stale file handle", wire.FailureOther},
	{syscall.EDQUOT, "", "Quota exceeded", wire.FailureOther},
}

// infoOf finds an error number among the few. A map would be made whenever the
// agent starts, which is when its host waits for it.
func infoOf(errno syscall.Errno) (info errnoInfo, ok bool) {
	for _, info := range errnos {
		if info.errno == errno {
			return info, true
		}
	}
	return errnoInfo{}, false
}

// describe returns an error number in the protocol's form, TEXT (os error N).
func describe(errno syscall.Errno) string {
	info, _ := infoOf(errno)
	text := info.text
	if text == "" {
		text = errno.Error()
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return fmt.Sprintf("%s (os error %d)", text, int(errno))
}

// kindOf is the failure kind of an error number.
func kindOf(errno syscall.Errno) wire.FailureKind {
	if info, ok := infoOf(errno); ok {
		return info.kind
	}
	return wire.FailureOther
}

// errnoFields are the two optional fields that carry an error's number.
func errnoFields(err error, nameOf func(syscall.Errno) string) (number *int32, name *string) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil, nil
	}
	n := int32(errno)
	if text := nameOf(errno); text != "" {
		return &n, &text
	}
	return &n, nil
}

// execName is the name that core.exec.failed uses.
func execName(errno syscall.Errno) string {
	if errno == syscall.EBADF {
		return ""
	}
	info, _ := infoOf(errno)
	return info.name
}

// stdinName is the name that core.exec.stdin.error uses.
func stdinName(errno syscall.Errno) string {
	switch errno { //nolint:exhaustive // Those that a write can end with.
	case syscall.EPIPE:
		return "EPIPE"
	case syscall.ENOSPC:
		return "ENOSPC"
	case syscall.EFBIG:
		return "EFBIG"
	case syscall.EBADF, syscall.EINVAL, syscall.EIO:
		info, _ := infoOf(errno)
		return info.name
	}
	return ""
}

// quote writes a command's name as the reference agents do: in double quotes,
// with those, backslashes and control characters escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == 0:
			b.WriteString(`\0`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
