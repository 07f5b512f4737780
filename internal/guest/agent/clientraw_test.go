package agent_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A tap counts the records that pass a link, by the longest, each way.
type tap struct {
	link          io.ReadWriteCloser
	toUs, toGuest atomic.Int64 // Bytes of data.
	longest       atomic.Int64
	from          *frame.Reader
	rest          []byte
}

func (c *tap) note(f frame.Frame, count *atomic.Int64) {
	if f.Flags == frame.Bulk {
		n := int64(len(f.Body) - wire.RecordHead)
		count.Add(n)
		c.longest.Store(max(c.longest.Load(), n))
	}
}

func (c *tap) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		f, whole, err := c.from.NextWhole()
		if err != nil {
			return 0, err
		}
		c.note(f, &c.toUs)
		c.rest = whole
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write sees whole frames: that is how a mux.Writer writes.
func (c *tap) Write(b []byte) (int, error) {
	for r := frame.NewReader(strings.NewReader(string(b))); ; {
		f, err := r.Next()
		if err != nil {
			break
		}
		c.note(f, &c.toGuest)
	}
	return c.link.Write(b)
}

func (c *tap) Close() error { return c.link.Close() }

// tapped is a client of an agent of generation 8, with a look at what passes.
func tapped(t *testing.T) (*client.Client, *tap) {
	t.Helper()
	nstest.Root(t)
	if err := sys.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	port, ours := link(t)
	h := &host{t: t, end: make(chan served, 1)}
	h.serve(agent.Open(port), port, config{generation: eight})
	look := &tap{link: ours, from: frame.NewReader(ours)}
	if _, err := look.from.Next(); err != nil {
		t.Fatal(err)
	}
	c := client.New(&client.Greeting{Link: look, Generation: eight}, client.IDs{})
	t.Cleanup(func() { _ = c.Close() })
	return c, look
}

// The client moves large files by records of the agreed length, and by none if it
// is told so; small files never.
func TestClientBulk(t *testing.T) {
	nstest.Run(t, func() {
		c, look := tapped(t)
		const size = 24<<20 + 11
		sum := scratch(t, size)
		for _, b := range []struct {
			name string
			client.Bulk
			longest int64
		}{
			{"usual", client.Bulk{}, 128 << 10},
			{"smallest", client.Bulk{Record: smallest, Window: 1}, smallest},
			{"largest", client.Bulk{Record: largest, Window: widest}, largest},
			{"off", client.Bulk{Off: true}, 0},
		} {
			look.toUs.Store(0)
			look.toGuest.Store(0)
			look.longest.Store(0)
			c.SetBulk(b.Bulk)
			if b.Window == 1 { // Byte by byte would take for ever.
				c.SetBulk(client.Bulk{Record: b.Record, Window: 2 * b.Record})
			}
			copied, err := c.Create(t.Context(), "/g")
			if err != nil {
				t.Fatal(err)
			}
			from, err := os.Open("/f")
			if err != nil {
				t.Fatal(err)
			}
			block := make([]byte, 3<<20)
			if n, err := io.CopyBuffer(struct{ io.Writer }{copied}, struct{ io.Reader }{from}, block); n != size || err != nil {
				t.Errorf("%s: written %d, %v", b.name, n, err)
			}
			if err := errors.Join(copied.Close(), from.Close()); err != nil {
				t.Errorf("%s: %v", b.name, err)
			}
			if got := sumOf(t, "/g"); got != sum {
				t.Errorf("%s: another file was written", b.name)
			}
			f, err := c.Open(t.Context(), "/g")
			if err != nil {
				t.Fatal(err)
			}
			hash := sha256.New()
			if n, err := io.Copy(hash, f); n != size || err != nil || [32]byte(hash.Sum(nil)) != sum {
				t.Errorf("%s: read %d, %v", b.name, n, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			least := int64(size * 9 / 10) // The first pieces are small, and go without.
			if b.Off {
				least = 0
			}
			into, out := look.toGuest.Load(), look.toUs.Load()
			if into < least || out < least || b.Off && into+out > 0 || look.longest.Load() > b.longest {
				t.Errorf("%s: %d bytes in records into the guest, %d out of it, the longest %d", b.name, into, out, look.longest.Load())
			}
		}
	})
}

func sumOf(t *testing.T, name string) [32]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(hash.Sum(nil))
}

// What goes wrong in the middle of a flow is what the file's methods return, and the
// client goes on.
func TestClientBulkFails(t *testing.T) {
	nstest.Run(t, func() {
		c, look := tapped(t)
		f, err := c.OpenFile(t.Context(), "/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(make([]byte, 16<<20))
		err = errors.Join(err, f.Close())
		if errno := new(client.GuestError); !errors.As(err, &errno) || errno.Errno != syscall.ENOSPC {
			t.Errorf("a write to a full disk: %v", err)
		}
		scratch(t, 40<<20)
		if f, err = c.Open(t.Context(), "/f"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, f, 8<<20); err != nil { // Then reading stops.
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 20<<20)
		if n, err := f.ReadAt(b, 1<<20); n != len(b) || err != nil {
			t.Error(n, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := f.Read(b); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		if look.toUs.Load() >= 40<<20 {
			t.Errorf("%d bytes came of a file that was read in part", look.toUs.Load())
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
