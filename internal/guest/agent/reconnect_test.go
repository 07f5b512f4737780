package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/internal/transfer"
)

// A cutter makes links that end after a number of bytes, and counts the bytes.
type cutter struct {
	s     *socket
	every int64        // Bytes that a link carries before it ends, at random from half of it on.
	left  atomic.Int64 // How many links are cut yet.
	moved atomic.Int64
}

func (c *cutter) dial(ctx context.Context) (*client.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.s.path)
	if err != nil {
		return nil, err
	}
	cut := &cutConn{Conn: conn, of: c}
	cut.until.Store(c.every/2 + rand.Int64N(c.every))
	return client.ConnectOver(ctx, cut)
}

// A cutConn is such a link.
type cutConn struct {
	net.Conn
	of    *cutter
	until atomic.Int64
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.count(n)
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count(n)
	return n, err
}

func (c *cutConn) count(n int) {
	c.of.moved.Add(int64(n))
	if c.until.Add(-int64(n)) <= 0 && c.of.take() {
		_ = c.Conn.Close()
	}
}

// take takes one of the cuts that are left.
func (c *cutter) take() bool {
	for {
		left := c.left.Load()
		if left <= 0 {
			return false
		}
		if c.left.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// again returns a Reconnector on links that are cut.
func (c *cutter) again(t *testing.T, cuts int64) *client.Reconnector {
	t.Helper()
	c.left.Store(cuts)
	r, err := client.Reconnect(t.Context(), c.dial, client.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A kept command whose link is cut gets every byte of its input once, and its client every
// byte of its outputs, without the caller's help.
func TestReconnectCommand(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		c := &cutter{s: newSocket(t), every: 300_000}
		r := c.again(t, 8)
		var in strings.Builder
		for i := range 300_000 {
			fmt.Fprintln(&in, i)
		}
		cmd := r.Command(t.Context(), "/bin/sh", "-c", "cat; echo end >&2; exit 3")
		var out, said bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in.String()), &out, &said
		err := cmd.Run()
		exit, ok := errors.AsType[*client.ExitError](err)
		if !ok || exit.ExitCode() != 3 || said.String() != "end\n" {
			t.Errorf("%v, %q", err, &said)
		}
		if out.String() != in.String() {
			t.Errorf("%d bytes came of %d", out.Len(), in.Len())
		}
		if left := c.left.Load(); left > 0 {
			t.Errorf("%d cuts are left", left)
		}
	})
}

// A copy each way goes on where the link was cut: the bytes are right, and only what was
// under way at a cut is moved again. AGENTD_LONG=1 moves 1 GiB with 20 cuts: at most 5 % more.
func TestReconnectFiles(t *testing.T) {
	size, cuts, most := int64(32<<20), int64(8), 0.15 // A cut costs up to a window, 256 KiB each side.
	if os.Getenv("AGENTD_LONG") == "1" {
		size, cuts, most = 1<<30, 20, 0.05
	}
	nstest.Run(t, func() {
		nstest.Root(t)
		c := &cutter{s: newSocket(t), every: size / (cuts + 3)}
		r := c.again(t, 0)
		from := &numbers{size: size}
		want := sha256.New()
		_, _ = io.Copy(want, from)
		_, _ = from.Seek(0, io.SeekStart)
		measure := func(what string, f func() error) {
			start, began := c.moved.Load(), time.Now()
			c.left.Store(cuts)
			if err := f(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			over := float64(c.moved.Load()-start)/float64(size) - 1
			t.Logf("%s of %d MiB with %d cuts: %.2f %% more bytes, %v", what, size>>20, cuts, 100*over, time.Since(began).Round(time.Millisecond))
			if left := c.left.Load(); left > 0 || over > most {
				t.Errorf("%s: %d cuts are left, %.2f %% more bytes", what, left, 100*over)
			}
		}
		measure("upload", func() error {
			n, err := r.Upload(t.Context(), "/file", from, 0o640)
			if err == nil && n != size {
				err = fmt.Errorf("%d bytes", n)
			}
			return err
		})
		got := sha256.New()
		measure("download", func() error {
			f, err := r.Open(t.Context(), "/file")
			if err != nil {
				return err
			}
			_, err = io.Copy(got, f)
			return errors.Join(err, f.Close())
		})
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("the bytes are others")
		}
		if all, err := os.ReadDir("/"); err != nil || strings.Contains(fmt.Sprint(all), ".part-") {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// A copied file goes on after a cut, both ways, with its holes and its mode.
func TestReconnectCopy(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		const size = 24 << 20
		c := &cutter{s: newSocket(t), every: size / 8}
		r := c.again(t, 5)
		if err := os.Mkdir("/host", 0o700); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, size)
		_, _ = io.ReadFull(&numbers{size: size}, want[:size/2])
		_, _ = io.ReadFull(&numbers{size: size}, want[size/2+4<<20:])
		if err := os.WriteFile("/host/file", want, 0o751); err != nil {
			t.Fatal(err)
		}
		guest := transfer.Guest{Again: r}
		copyFile := func(from, to transfer.End) {
			t.Helper()
			c.left.Store(5)
			if _, err := carry(t.Context(), from, to, transfer.Files); err != nil {
				t.Fatal(err)
			}
			if left := c.left.Load(); left > 0 {
				t.Errorf("%d cuts are left", left)
			}
			got, err := os.ReadFile(to.Name)
			info, _ := os.Stat(to.Name)
			if err != nil || !bytes.Equal(got, want) || info.Mode().Perm() != 0o751 {
				t.Errorf("%v, %d bytes, %v", err, len(got), info.Mode())
			}
		}
		copyFile(transfer.End{Side: transfer.Host{}, Name: "/host/file"}, transfer.End{Side: guest, Name: "/in"})
		copyFile(transfer.End{Side: guest, Name: "/in"}, transfer.End{Side: transfer.Host{}, Name: "/host/out"})
		for _, dir := range []string{"/", "/host"} {
			if left, _ := filepath.Glob(dir + "/.agentctl-*"); left != nil {
				t.Errorf("left: %v", left)
			}
		}
	})
}

// A file that changes while a link ends is refused: by its size, by another file with its name,
// its size and its second, and by a write in the same second. Its mode and name may change.
func TestReconnectChanged(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		const size = 16 << 20
		c := &cutter{s: newSocket(t), every: 4 << 20}
		r := c.again(t, 0)
		when := time.Unix(1_700_000_000, 500_000_000)
		fresh := func(name string) error {
			return errors.Join(os.WriteFile(name, make([]byte, size), 0o640), os.Chtimes(name, when, when))
		}
		for what, change := range map[string]func() error{
			"size":   func() error { return errors.Join(os.Truncate("/f", size-1), os.Chtimes("/f", when, when)) },
			"inode":  func() error { return errors.Join(fresh("/g"), os.Rename("/g", "/f")) },
			"moment": func() error { return os.Chtimes("/f", when, when.Add(1)) },
			"mode":   func() error { return os.Chmod("/f", 0o600) },
		} {
			if err := fresh("/f"); err != nil {
				t.Fatal(err)
			}
			f, err := r.Open(t.Context(), "/f")
			if err == nil {
				_, err = io.CopyN(io.Discard, f, 1<<20)
			}
			if err = errors.Join(err, change()); err != nil {
				t.Fatal(err)
			}
			c.left.Store(1)
			n, err := io.Copy(io.Discard, f)
			if allowed := what == "mode"; errors.Is(err, client.ErrChanged) == allowed || allowed && (err != nil || n != size-1<<20) {
				t.Errorf("%s: %d bytes, %v", what, n, err)
			}
			if left := c.left.Load(); left > 0 {
				t.Errorf("%s: nothing was cut", what)
			}
			_ = f.Close()
		}
	})
}

// numbers is a file that takes no memory.
type numbers struct{ size, pos int64 }

func (p *numbers) Read(b []byte) (int, error) {
	n := int(min(int64(len(b)), p.size-p.pos))
	if n == 0 {
		return 0, io.EOF
	}
	for i := range b[:n] {
		at := uint64(p.pos) + uint64(i)
		b[i] = byte((at>>3)*0x9e3779b97f4a7c15>>56) ^ byte(at)
	}
	p.pos += int64(n)
	return n, nil
}

func (p *numbers) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		offset += p.pos
	}
	p.pos = offset
	return offset, nil
}
