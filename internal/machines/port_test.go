package machines_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/client"
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

// The far side sees the end of the near side's data, and can still answer.
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

// severed is a connection to a machine whose link ends in the middle of an answer.
type severed struct {
	net.Conn
	left []byte
	end  chan struct{}
}

func (s *severed) Read(p []byte) (n int, err error) {
	if len(s.left) == 0 {
		<-s.end
		return 0, &client.LinkError{Err: io.EOF}
	}
	n, s.left = copy(p, s.left), nil
	return n, nil
}

// An answer that the end of the machine cuts does not look like a whole one.
func TestForwardCut(t *testing.T) {
	front := listen(t)
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	end := make(chan struct{})
	dialed := func(context.Context) (net.Conn, error) { return &severed{far, []byte("hello"), end}, nil }
	f := machines.Forward(front, dialed, func(line string) { t.Error(line) })
	c, got := dial(t, front.Addr().String()), make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("before the end: %q, %v", got, err)
	}
	close(end)
	if got, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a part of an answer: %q, %v", got, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// A port that leads nowhere is knocked at for as long as its machine lives: the log
// gets the reason and counts, whatever reasons a guest thinks of.
func TestForwardRefusedAgain(t *testing.T) {
	const knocks, reasons = 1000, 100
	for _, tt := range []struct {
		name        string
		reason      func(i int) string
		least, most int
		last        string
	}{
		{"one reason", func(int) string { return "refused" }, 4, 4, "refused (1000 times)"},
		{"many reasons", func(i int) string { return fmt.Sprint("refused for ", i%reasons) }, 32, 100, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var lines []string
			tried := 0
			front := listen(t)
			f := machines.Forward(front, func(context.Context) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				tried++
				return nil, errors.New(tt.reason(tried))
			}, func(line string) {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line)
			})
			for range knocks {
				c := dial(t, front.Addr().String())
				_, _ = c.Read(make([]byte, 1)) // It is closed, one way or another.
				_ = c.Close()
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if n := len(lines); n < tt.least || n > tt.most || !strings.HasSuffix(lines[n-1], tt.last) {
				t.Errorf("%d lines of %d failures: %q", n, tried, lines)
			}
		})
	}
}

// short is a listener that is out of descriptors for its first accepts.
type short struct {
	net.Listener
	failures int
}

func (l *short) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

// A port outlives a lack of descriptors, of which a line tells.
func TestForwardShortOfDescriptors(t *testing.T) {
	front := listen(t)
	lines := make(chan string, 2)
	refuse := func(context.Context) (net.Conn, error) { return nil, errors.New("nobody listens") }
	f := machines.Forward(&short{front, 3}, refuse, func(line string) { lines <- line })
	defer func() { _ = f.Close() }()
	if _, err := io.ReadAll(dial(t, front.Addr().String())); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"too many open files", "nobody listens"} {
		if line := <-lines; !strings.Contains(line, want) {
			t.Errorf("line %q, want %q", line, want)
		}
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

// dialed is a guest in which nothing listens but at one address.
type dialed struct {
	listens string
	fails   error
	asked   []string
}

func (d *dialed) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	d.asked = append(d.asked, address)
	if address != d.listens {
		return nil, &net.OpError{Op: "dial", Err: fmt.Errorf("%s: %w", address, d.fails)}
	}
	return &net.TCPConn{}, nil
}

// A server may listen on ::1 alone, and a port that is closed is named as it was asked for.
func TestPortOfBothFamilies(t *testing.T) {
	for _, tt := range []struct {
		name, listens, guest string
		fails                error
		asked                string
		ok                   bool
	}{
		{"IPv4", "127.0.0.1:80", "127.0.0.1:80", syscall.ECONNREFUSED, "127.0.0.1:80", true},
		{"IPv6 alone", "[::1]:80", "127.0.0.1:80", syscall.ECONNREFUSED, "127.0.0.1:80 [::1]:80", true},
		{"nobody", "", "127.0.0.1:80", syscall.ECONNREFUSED, "127.0.0.1:80 [::1]:80", false},
		{"another failure", "[::1]:80", "127.0.0.1:80", syscall.EMFILE, "127.0.0.1:80", false},
		{"another address", "[::1]:80", "10.0.2.15:80", syscall.ECONNREFUSED, "10.0.2.15:80", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &dialed{listens: tt.listens, fails: tt.fails}
			_, err := machines.Port{Guest: tt.guest}.Dial(d)(t.Context())
			if got := strings.Join(d.asked, " "); got != tt.asked || (err == nil) != tt.ok {
				t.Errorf("asked %q, want %q; %v", got, tt.asked, err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.guest) {
				t.Errorf("the error names another address than %s: %v", tt.guest, err)
			}
		})
	}
}
