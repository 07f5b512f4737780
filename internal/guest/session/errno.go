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
	name string // "" where the protocol has none.
	text string
	kind wire.FailureKind
}

var errnos = map[syscall.Errno]errnoInfo{
	syscall.EPERM:        {"EPERM", "Operation not permitted", wire.FailurePermissionDenied},
	syscall.ENOENT:       {"ENOENT", "No such file or directory", wire.FailureNotFound},
	syscall.EIO:          {"EIO", "I/O error", wire.FailureOther},
	syscall.ENXIO:        {"ENXIO", "No such device or address", wire.FailureOther},
	syscall.E2BIG:        {"E2BIG", "Argument list too long", wire.FailureBadArgs},
	syscall.ENOEXEC:      {"ENOEXEC", "Exec format error", wire.FailureNotExecutable},
	syscall.EBADF:        {"EBADF", "Bad file descriptor", wire.FailureOther},
	syscall.EAGAIN:       {"EAGAIN", "Resource temporarily unavailable", wire.FailureResourceLimit},
	syscall.ENOMEM:       {"ENOMEM", "Out of memory", wire.FailureOutOfMemory},
	syscall.EACCES:       {"EACCES", "Permission denied", wire.FailurePermissionDenied},
	syscall.EFAULT:       {"EFAULT", "Bad address", wire.FailureBadArgs},
	syscall.EBUSY:        {"EBUSY", "Resource busy", wire.FailureOther},
	syscall.EEXIST:       {"", "File exists", wire.FailureOther},
	syscall.ENOTDIR:      {"ENOTDIR", "Not a directory", wire.FailureBadCwd},
	syscall.EISDIR:       {"EISDIR", "Is a directory", wire.FailureNotExecutable},
	syscall.EINVAL:       {"EINVAL", "Invalid argument", wire.FailureOther},
	syscall.ENFILE:       {"ENFILE", "Too many open files in system", wire.FailureResourceLimit},
	syscall.EMFILE:       {"EMFILE", "No file descriptors available", wire.FailureResourceLimit},
	syscall.ETXTBSY:      {"ETXTBSY", "Text file busy", wire.FailureNotExecutable},
	syscall.EFBIG:        {"", "File too large", wire.FailureOther},
	syscall.ENOSPC:       {"", "No space left on device", wire.FailureOther},
	syscall.ESPIPE:       {"", "Invalid seek", wire.FailureOther},
	syscall.EROFS:        {"", "Read-only file system", wire.FailureOther},
	syscall.EPIPE:        {"", "Broken pipe", wire.FailureOther},
	syscall.ENAMETOOLONG: {"ENAMETOOLONG", "Filename too long", wire.FailureBadArgs},
	syscall.ENOSYS:       {"ENOSYS", "Function not implemented", wire.FailureOther},
	syscall.ENOTEMPTY:    {"", "Directory not empty", wire.FailureOther},
	syscall.ELOOP:        {"ELOOP", "Symbolic link loop", wire.FailureBadArgs},
	syscall.ENETUNREACH:  {"", "Network unreachable", wire.FailureOther},
	syscall.ECONNREFUSED: {"", "Connection refused", wire.FailureOther},
	syscall.ECONNRESET:   {"", "Connection reset by peer", wire.FailureOther},
	syscall.ETIMEDOUT:    {"", "Operation timed out", wire.FailureOther},
	syscall.EHOSTUNREACH: {"", "Host is unreachable", wire.FailureOther},
	syscall.EXDEV:        {"", "Cross-device link", wire.FailureOther},
	syscall.ENODEV:       {"", "No such device", wire.FailureOther},
	syscall.ENOTSUP:      {"", "Not supported", wire.FailureOther},
	syscall.ESTALE:       {"", "Stale file handle", wire.FailureOther},
	syscall.EDQUOT:       {"", "Quota exceeded", wire.FailureOther},
}

// describe returns an error number in the protocol's form, TEXT (os error N).
func describe(errno syscall.Errno) string {
	text := errnos[errno].text
	if text == "" {
		text = errno.Error()
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return fmt.Sprintf("%s (os error %d)", text, int(errno))
}

// kindOf is the failure kind of an error number.
func kindOf(errno syscall.Errno) wire.FailureKind {
	if info, ok := errnos[errno]; ok {
		return info.kind
	}
	return wire.FailureOther
}

// errnoFields are the two optional fields that carry an error's number.
func errnoFields(err error, names map[syscall.Errno]string) (number *int32, name *string) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil, nil
	}
	n := int32(errno)
	if text := names[errno]; text != "" {
		return &n, &text
	}
	return &n, nil
}

// execNames are the names that core.exec.failed uses.
var execNames = func() map[syscall.Errno]string {
	m := map[syscall.Errno]string{}
	for errno, info := range errnos {
		if info.name != "" && errno != syscall.EBADF {
			m[errno] = info.name
		}
	}
	return m
}()

// stdinNames are the names that core.exec.stdin.error uses.
var stdinNames = map[syscall.Errno]string{
	syscall.EPIPE: "EPIPE", syscall.EBADF: "EBADF", syscall.EINVAL: "EINVAL",
	syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC", syscall.EFBIG: "EFBIG",
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
