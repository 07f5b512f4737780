package client_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// stacksOf returns the stacks of goroutines that have one of the words in them.
func stacksOf(words ...string) string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		for _, word := range words {
			if strings.Contains(stack, "client."+word) {
				found = append(found, stack)
				break
			}
		}
	}
	return strings.Join(found, "\n\n")
}

// relay listens like one and gives each client to serve.
func relay(t *testing.T, serve func(conn net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := background(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served()
	})
	return socket
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDial(t *testing.T) {
	tests := []struct {
		name, hello string
		id          uint32
		gen         wire.Generation
	}{
		{"slot 0", "0000000101ffffff" + ready055, 1, 4},
		{"slot 1", "0200000003fffffe" + ready055, 0x02000000, 4},
		{"newer agent", "0200000003fffffe" + strings.Replace(ready055, "617604", "617609", 1), 0x02000000, wire.Newest},
		{"legacy, first", "00000000" + ready055, 1, 1},
		{"legacy, last", "effffff1" + ready055, 0xeffffff2, 1},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 1 << 20} {
			t.Run(tt.name, func(t *testing.T) {
				socket := relay(t, func(conn net.Conn) {
					for hello := unhex(t, tt.hello); len(hello) > 0; {
						n := min(piece, len(hello))
						_, _ = conn.Write(hello[:n])
						hello = hello[n:]
					}
					p := &peer{t: t, conn: conn, frames: frame.NewReader(conn)}
					if id := p.begin(); id != tt.id {
						t.Errorf("first id %#x, want %#x", id, tt.id)
					}
					p.write(golden(t, tt.id, stdoutHi))
					p.write(golden(t, tt.id, exited3))
				})
				c, err := client.Connect(t.Context(), socket)
				if err != nil {
					t.Fatal(err)
				}
				if c.Generation() != int(tt.gen) || c.Agent().Version != "0.5.5" || c.Agent().Started != 1224033750 {
					t.Errorf("generation %d, ready %+v", c.Generation(), c.Agent())
				}
				out, err := c.Command("echo").Output()
				var exit *client.ExitError
				if string(out) != "hi\n" || !errors.As(err, &exit) {
					t.Errorf("Output = %q, %v", out, err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Frames directly after the handshake are not lost.
func TestDialMerged(t *testing.T) {
	socket := relay(t, func(conn net.Conn) {
		hello := unhex(t, "0000000101ffffff"+ready055)
		_, _ = conn.Write(append(hello, 0, 0, 0, 1)) // A length that is too small.
	})
	c, err := client.Connect(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	var length *frame.LengthError
	if !errors.As(c.Err(), &length) || length.Length != 1 {
		t.Errorf("Err = %v", c.Err())
	}
	_ = c.Close()
}

func TestDialErrors(t *testing.T) {
	garbage := "0000000700000000004142"
	tests := []struct{ name, hello, want string }{
		{"full", "", "128 clients: EOF"},
		{"short", "000000", "handshake: unexpected EOF"},
		{"no ready", "0000000101ffffff", "handshake: unexpected EOF"},
		{"half a ready", "0000000101ffffff" + ready055[:40], "handshake: unexpected EOF"},
		{"empty range", "0200000002000000" + ready055, "bad id range"},
		{"backward range", "0300000002000000" + ready055, "bad id range"},
		{"id 0", "0000000001ffffff" + ready055, "bad id range"},
		{"legacy range beyond the ids", "f8000000" + ready055, "bad id range"},
		{"legacy range that wraps", "ffffffff" + ready055, "bad id range"},
		{"garbage", "0000000101ffffff" + garbage, "decode envelope"},
		{"another message", "0000000101ffffff" + exited3, "core.exec.exited with id 1"},
		{"ready with an id", "0000000101ffffff" + ready055[:14] + "01" + ready055[16:], "with id 1 and flags 0 in place of core.ready"},
		{"frame too long", "0000000101ffffff" + "ffffffff", "above the maximum"},
		{"bad payload", "0000000101ffffff" + "0000001a0000000000" + "a361760761746a636f72652e72656164796170" + "41a0", "boot_time_ns"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := relay(t, func(conn net.Conn) { _, _ = conn.Write(unhex(t, tt.hello)) })
			_, err := client.Connect(t.Context(), socket)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Dial = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestDialContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	socket := relay(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte{0, 0, 0, 1})
		cancel()
		_, _ = io.Copy(io.Discard, conn) // Until the client gives up.
	})
	if _, err := client.Connect(ctx, socket); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial = %v", err)
	}
	// The context of Dial is not the client's.
	socket = relay(t, func(conn net.Conn) {
		_, _ = conn.Write(unhex(t, "0000000101ffffff"+strings.Replace(ready055, "617604", "617608", 1)))
		p := &peer{t: t, conn: conn, frames: frame.NewReader(conn)}
		p.send(p.expect(new(wire.Ping)), new(wire.Pong))
	})
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	c, err := client.Connect(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	if _, err := client.Connect(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("Dial of nothing succeeded")
	}
}

// A handshake, whatever it is, leaves a usable range, takes no more than its own
// bytes, and does not depend on how they arrive.
func FuzzHandshake(f *testing.F) {
	for _, hello := range []string{"0000000101ffffff" + ready055, "00000000" + ready055, "0000000101ffffff" + exited3, "ffffffff" + ready055, ""} {
		b, err := hex.DecodeString(hello)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 1)
		f.Add(append(b, "rest"...), 100)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = max(1, min(size, len(b)))
		ids, gen, rest, err := client.ReadHello(bytes.NewReader(b))
		ids2, gen2, rest2, err2 := client.ReadHello(&slow{b: b, size: size})
		if (err == nil) != (err2 == nil) || ids != ids2 || gen != gen2 || !bytes.Equal(rest, rest2) {
			t.Fatalf("whole: %v %d %x %v; in pieces of %d: %v %d %x %v", ids, gen, rest, err, size, ids2, gen2, rest2, err2)
		}
		if err != nil {
			return
		}
		if ids.Start == 0 || ids.Start >= ids.End {
			t.Errorf("range %v", ids)
		}
		if !bytes.HasSuffix(b, rest) {
			t.Errorf("rest %x is not the end of %x", rest, b)
		}
	})
}

// slow gives size bytes at a time.
type slow struct {
	b    []byte
	size int
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.b)
	s.b = s.b[n:]
	return n, nil
}
