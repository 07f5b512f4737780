package relay_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire/frame"
)

// BenchmarkOutput moves 64 MiB of output from a guest that does nothing else to a
// client, with and without a relay between them, in frames as our agent makes them.
func BenchmarkOutput(b *testing.B) {
	for name, size := range map[string]int{"4KiB": 4 << 10, "32KiB": 32<<10 - 60, "1MiB": 1 << 20} {
		b.Run(name+"/direct", func(b *testing.B) {
			guest, near := pair(b)
			flow(b, guest, near, size)
		})
		b.Run(name+"/relay", func(b *testing.B) {
			guest, near := pair(b)
			path := filepath.Join(b.TempDir(), "s")
			l, err := relay.Listen(path)
			if err != nil {
				b.Fatal(err)
			}
			r := relay.New(relay.Config{Link: near, Ready: ready(b), Words: words(b)})
			defer func() { _ = r.Close() }()
			r.Serve(l)
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 8+len(ready(b)))); err != nil {
				b.Fatal(err)
			}
			flow(b, guest, conn, size)
		})
	}
}

const benchBytes = 64 << 20

func flow(b *testing.B, guest, conn net.Conn, size int) {
	b.Helper()
	first, _ := frame.SlotRange(0)
	one := raw(first, 0, strings.Repeat("x", size))
	frames := frame.NewReader(conn)
	b.SetBytes(benchBytes)
	for b.Loop() {
		go func() {
			for range benchBytes / size {
				if _, err := guest.Write(one); err != nil {
					b.Error(err)
				}
			}
		}()
		for range benchBytes / size {
			if _, err := frames.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// pair is a machine's link, as the monitor makes it.
func pair(tb testing.TB) (guest, near net.Conn) {
	tb.Helper()
	l, err := net.Listen("unix", filepath.Join(tb.TempDir(), "link"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if guest, err = net.Dial("unix", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = guest.Close(), near.Close() })
	return guest, near
}
