package exec

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/agentd-go/agentd/internal/guest/session"
)

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
	return session.NameOf(errno)
}

// stdinName is the name that core.exec.stdin.error uses.
func stdinName(errno syscall.Errno) string {
	switch errno { //nolint:exhaustive // Only errors of a write.
	case syscall.EPIPE:
		return "EPIPE"
	case syscall.ENOSPC:
		return "ENOSPC"
	case syscall.EFBIG:
		return "EFBIG"
	case syscall.EBADF, syscall.EINVAL, syscall.EIO:
		return session.NameOf(errno)
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
