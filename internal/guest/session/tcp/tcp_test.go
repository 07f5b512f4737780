package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

// Why there is no connection, in the words that hosts look for.
func TestConnectErrors(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, tt := range []struct {
		err  error
		want string
	}{
		{dial(context.DeadlineExceeded), "connect h:1 timed out"},
		{dial(fmt.Errorf("poll: %w", os.ErrDeadlineExceeded)), "connect h:1 timed out"},
		{dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), "connect h:1: Operation timed out (os error 110)"},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "connect h:1: Connection refused (os error 111)"},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "connect h:1: Host is unreachable (os error 113)"},
		{dial(&net.DNSError{IsNotFound: true}), "connect h:1: failed to lookup address information: Name does not resolve"},
		{dial(&net.DNSError{IsTimeout: true}), "connect h:1: failed to lookup address information: Try again"},
		{errors.New("other"), "connect h:1: other"},
	} {
		if got := connectError(&wire.TCPConnect{Host: "h", Port: 1}, tt.err).Error(); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
	}
}
