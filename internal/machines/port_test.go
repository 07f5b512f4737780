package machines_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/machines"
)

// listen opens any free port of this host.
func listen(t *testing.T) net.Listener {
	t.Helper()
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The far side hears the end of what the near one says, and can still answer.
func TestForward(t *testing.T) {
	server, front := listen(t), listen(t)
	defer func() { _ = server.Close() }()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			_, _ = c.Write([]byte(strings.ToUpper(string(b))))
			_ = c.Close()
		}
	}()
	far := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server.Addr().String())
	}
	f := machines.Forward(front, far, func(line string) { t.Error(line) })
	c := dial(t, front.Addr().String())
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	half, _ := c.(*net.TCPConn)
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "HELLO" {
		t.Errorf("answer %q, %v", got, err)
	}
	// Close ends connections that are open, and waits for them.
	open := dial(t, front.Addr().String())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(open); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("an open connection: %v", err)
	}
}

// A guest that refuses costs one connection and a line.
func TestForwardRefused(t *testing.T) {
	front := listen(t)
	lines := make(chan string, 1)
	refuse := func(context.Context) (net.Conn, error) { return nil, errors.New("nobody listens") }
	f := machines.Forward(front, refuse, func(line string) { lines <- line })
	defer func() { _ = f.Close() }()
	c := dial(t, front.Addr().String())
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	if line := <-lines; !strings.Contains(line, "nobody listens") {
		t.Errorf("line %q", line)
	}
}
