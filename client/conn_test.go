package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// Frames of the protocol's test vectors, by their numbers there.
const (
	connected  = "000000220000000d00a3617604617472636f72652e7463702e636f6e6e6563746564617041a0"                                                                                                                         // G21
	refused    = "0000005e0000000301a361760461746f636f72652e7463702e6661696c65646170583fa1656572726f727836636f6e6e656374203132372e302e302e313a313a20436f6e6e656374696f6e207265667573656420286f73206572726f722031313129" // G22
	tcpHello   = "000000280000000d00a361760461746d636f72652e7463702e6461746161704ca164646174614568656c6c6f"                                                                                                             // G23
	tcpEOF     = "0000001c0000000d00a361760461746c636f72652e7463702e656f66617041a0"                                                                                                                                     // G24
	tcpClosed9 = "0000001f0000001d01a361760961746f636f72652e7463702e636c6f736564617041a0"                                                                                                                               // G25
)

// connects plays the making of a connection to port 80.
func (p *peer) connects() uint32 {
	p.t.Helper()
	id := p.expect(&wire.TCPConnect{Host: "127.0.0.1", Port: 80})
	p.write(golden(p.t, id, connected))
	return id
}

// dial makes the connection that the peer plays.
func dial(t *testing.T, c *client.Client, p *peer) (*client.Conn, uint32) {
	t.Helper()
	var id uint32
	wait := background(func() { id = p.connects() })
	conn, err := c.Dial("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	wait()
	own, ok := conn.(*client.Conn)
	if !ok {
		t.Fatalf("dialed a %T", conn)
	}
	return own, id
}

func TestRecordedConn(t *testing.T) {
	script(t, 4, func(c *client.Client, p *peer) {
		t := p.t
		conn, id := dial(t, c, p)
		wait := background(func() {
			p.expect(&wire.TCPData{Data: []byte("request")})
			p.expect(new(wire.TCPEOF))
			p.write(golden(t, id, tcpHello))
			p.write(golden(t, id, tcpEOF))
			p.write(golden(t, id, tcpClosed9))
		})
		if s := conn.RemoteAddr().String(); s != "127.0.0.1:80" {
			t.Errorf("remote address %s", s)
		}
		if n, err := conn.Write([]byte("request")); n != 7 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write after CloseWrite = %v", err)
		}
		if b, err := io.ReadAll(conn); string(b) != "hello" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		wait()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close = %v", err)
		}
	})
}

func TestConnErrors(t *testing.T) {
	const lookup = "connect x:80: failed to lookup address information: "
	for _, tt := range []struct {
		words string
		check func(err error) bool
	}{
		{"", func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		{"connect x:80: Network unreachable (os error 101)", func(err error) bool { return errors.Is(err, syscall.ENETUNREACH) }},
		{"connect x:80 timed out", func(err error) bool {
			var timeout net.Error
			return errors.As(err, &timeout) && timeout.Timeout()
		}},
		{lookup + "Name does not resolve", func(err error) bool {
			dns, ok := errors.AsType[*net.DNSError](err)
			return ok && dns.IsNotFound && dns.Name == "x"
		}},
		{lookup + "Try again", func(err error) bool {
			dns, ok := errors.AsType[*net.DNSError](err)
			return ok && !dns.IsNotFound && dns.Temporary()
		}},
	} {
		script(t, 4, func(c *client.Client, p *peer) {
			t := p.t
			defer background(func() {
				id := p.expect(&wire.TCPConnect{Host: "x", Port: 80})
				if tt.words == "" {
					p.write(golden(t, id, refused))
				} else {
					p.send(id, &wire.TCPFailed{Error: tt.words})
				}
			})()
			_, err := c.Dial("tcp", "x:80")
			op, ok := errors.AsType[*net.OpError](err)
			if !ok || op.Op != "dial" || op.Addr.String() != "x:80" || !tt.check(err) {
				t.Errorf("%q is %v", tt.words, err)
			}
		})
	}
}

func TestConnAddresses(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		for _, at := range [][2]string{{"udp", "x:1"}, {"tcp", "x"}, {"tcp6", "127.0.0.1:1"}, {"tcp4", "x:1"}, {"tcp", "x:70000"}} {
			if _, err := c.Dial(at[0], at[1]); err == nil {
				p.t.Errorf("dialed %s %s", at[0], at[1])
			}
		}
	})
}

// A connection whose Dial was cancelled is closed on both sides.
func TestConnContext(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		defer background(func() {
			id := p.expect(&wire.TCPConnect{Host: "127.0.0.1", Port: 80})
			if p.expect(new(wire.TCPClose)) != id {
				t.Error("another connection is closed")
			}
			p.write(golden(t, id, connected)) // It comes too late.
		})()
		_, err := c.DialContext(ctx, "tcp", ":80")
		if op, ok := errors.AsType[*net.OpError](err); !ok || !op.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial = %v", err)
		}
	})
}

// Agents up to 0.6.14 say nothing when both halves have ended, and keep the
// connection until they are told; nobody listens to one that was closed.
func TestConnLingers(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, conn *client.Conn, p *peer, id uint32){
		"both halves ended": func(t *testing.T, conn *client.Conn, p *peer, id uint32) {
			t.Helper()
			p.write(golden(t, id, tcpEOF))
			if b, err := io.ReadAll(conn); len(b) > 0 || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
		},
		"closed": func(t *testing.T, conn *client.Conn, p *peer, id uint32) {
			t.Helper()
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			p.write(golden(t, id, tcpHello))
		},
	} {
		script(t, 4, func(c *client.Client, p *peer) {
			t := p.t
			conn, id := dial(t, c, p)
			var took time.Duration
			wait := background(func() {
				p.expect(new(wire.TCPEOF))
				start := time.Now()
				if p.expect(new(wire.TCPClose)) != id {
					t.Error("another connection is closed")
				}
				took = time.Since(start)
			})
			end(t, conn, p, id)
			wait()
			if took != 5*time.Second {
				t.Errorf("%s: told after %v", name, took)
			}
			if _, err := conn.Write([]byte("x")); err == nil {
				t.Errorf("%s: written", name)
			}
		})
	}
}

// What is left unread holds up the link for a while, and then is given up so that
// the others go on.
func TestConnUnread(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		conn, id := dial(t, c, p)
		wait := background(func() {
			for range 65 { // 4 MiB and what one more costs.
				p.send(id, &wire.TCPData{Data: make([]byte, 64<<10)})
			}
			p.expect(new(wire.Ping))
			p.expect(new(wire.TCPClose))
			p.send(id+1, new(wire.Pong))
		})
		if took, err := c.Ping(t.Context()); err != nil || took != client.UnreadTimeout {
			t.Errorf("Ping = %v, %v", took, err)
		}
		wait()
		n, err := io.Copy(io.Discard, conn)
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "read" || !errors.Is(err, client.ErrUnread) || n < client.ConnLimit-128<<10 {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
}

// Deadlines pass, and can be moved; a link that takes nothing stops a Write.
func TestConnDeadlines(t *testing.T) {
	script(t, 7, func(c *client.Client, p *peer) {
		t := p.t
		conn, id := dial(t, c, p)
		late := func(what string, after time.Duration, do func() (int, error)) {
			start := time.Now()
			_, err := do()
			op, ok := errors.AsType[*net.OpError](err)
			if took := time.Since(start); !ok || !op.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || took != after {
				t.Errorf("%s = %v after %v", what, err, took)
			}
		}
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		late("Read", time.Second, func() (int, error) { return conn.Read(make([]byte, 1)) })
		synctest.Wait() // The other deadline has passed at the same moment.
		late("Write", 0, func() (int, error) { return conn.Write([]byte("x")) })
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		late("a Write that nobody takes", time.Second, func() (int, error) { return conn.Write(make([]byte, 1<<20)) })
		if err := conn.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		wait := background(p.ignore)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		p.write(golden(t, id, tcpHello))
		b := make([]byte, 9)
		if n, err := conn.Read(b); string(b[:n]) != "hello" || err != nil {
			t.Errorf("Read = %q, %v", b[:n], err)
		}
		_ = p.conn.Close()
		wait()
	})
}

func TestConnBreaks(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(p *peer, id uint32)
		read func(err error) bool
	}{
		"reset": {
			func(p *peer, id uint32) {
				p.send(id, &wire.TCPFailed{Error: "read TCP stream: Connection reset by peer (os error 104)"})
			},
			func(err error) bool { return errors.Is(err, syscall.ECONNRESET) },
		},
		"data after the end": {
			func(p *peer, id uint32) {
				p.write(golden(p.t, id, tcpEOF))
				p.write(golden(p.t, id, tcpHello))
				p.expect(new(wire.TCPClose))
			},
			func(err error) bool { return err == nil },
		},
		"connected again": {
			func(p *peer, id uint32) {
				p.write(golden(p.t, id, connected))
				p.expect(new(wire.TCPClose))
			},
			func(err error) bool { return strings.Contains(err.Error(), "out of place") },
		},
		"end of the link": {
			func(p *peer, _ uint32) { _ = p.conn.Close() },
			func(err error) bool { _, ok := errors.AsType[*client.LinkError](err); return ok },
		},
		"close": {
			func(*peer, uint32) {},
			nil,
		},
	} {
		script(t, 7, func(c *client.Client, p *peer) {
			t := p.t
			conn, id := dial(t, c, p)
			p.write(golden(t, id, tcpHello))
			wait := background(func() { tt.end(p, id) })
			b := make([]byte, 5)
			if _, err := io.ReadFull(conn, b); err != nil {
				t.Error(err)
			}
			if tt.read == nil {
				time.AfterFunc(time.Second, func() { _ = conn.Close() })
				go p.ignore()
				tt.read = func(err error) bool { return errors.Is(err, net.ErrClosed) }
			}
			if b, err := io.ReadAll(conn); len(b) > 0 || !tt.read(err) {
				t.Errorf("%s: read %q, %v", name, b, err)
			}
			wait()
			if _, err := conn.Write([]byte("x")); err == nil {
				t.Errorf("%s: written", name)
			}
		})
	}
}
