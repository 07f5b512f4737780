package sys_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/guest/sys"
)

// pairedPort is a port on one end of a pair of sockets, and the other end.
func pairedPort(t *testing.T) (port *sys.Port, host *os.File) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	port, host = sys.InheritPort(uintptr(ends[0])), os.NewFile(uintptr(ends[1]), "host")
	t.Cleanup(func() { _, _ = port.Close(), host.Close() })
	return port, host
}

// A port does the same before it joins the poller and after that.
func TestPort(t *testing.T) {
	for _, way := range []struct {
		name string
		join func(*sys.Port) error
	}{
		{"before", func(*sys.Port) error { return nil }},
		{"after", (*sys.Port).Join},
	} {
		t.Run(way.name, func(t *testing.T) {
			open := func(t *testing.T) (*sys.Port, *os.File) {
				t.Helper()
				port, host := pairedPort(t)
				if err := way.join(port); err != nil {
					t.Fatal(err)
				}
				return port, host
			}
			t.Run("waits for bytes", func(t *testing.T) { portWaits(t, open) })
			t.Run("deadlines", func(t *testing.T) { portDeadlines(t, open) })
			t.Run("host gone", func(t *testing.T) { portHostGone(t, open) })
		})
	}
}

func portWaits(t *testing.T, open func(*testing.T) (*sys.Port, *os.File)) {
	t.Helper()
	port, host := open(t)
	sent := bytes.Repeat([]byte("port"), 256<<10) // More than a socket holds, both ways.
	echoed := make(chan error, 1)
	go func() {
		got := make([]byte, len(sent))
		_, err := io.ReadFull(host, got)
		if err == nil {
			_, err = host.Write(got)
		}
		echoed <- err
	}()
	if n, err := port.Write(sent); n != len(sent) || err != nil {
		t.Fatalf("wrote %d bytes of %d: %v", n, len(sent), err)
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(port, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("read others, or: %v", err)
	}
	if err := <-echoed; err != nil {
		t.Error(err)
	}
}

func portDeadlines(t *testing.T, open func(*testing.T) (*sys.Port, *os.File)) {
	t.Helper()
	port, _ := open(t)
	if err := port.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := port.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes: %v, want %v", n, err, os.ErrDeadlineExceeded)
	}
	if n, err := port.Write(make([]byte, 8<<20)); n == 8<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes to nobody: %v, want %v", n, err, os.ErrDeadlineExceeded)
	}
	if err := port.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// A host that is not there is waited for by a patient port, and is the end for others.
func portHostGone(t *testing.T, open func(*testing.T) (*sys.Port, *os.File)) {
	t.Helper()
	port, host := open(t)
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	port.Patient.Store(true)
	if err := port.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := port.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a patient port: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if err := port.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	port.Patient.Store(false)
	if _, err := port.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an impatient port: %v, want %v", err, io.EOF)
	}
}

// A host that has been there and has gone is the end for a patient port too, as soon as
// what it has said is read.
func TestPortMetHost(t *testing.T) {
	soon := func(port *sys.Port) {
		t.Helper()
		port.Patient.Store(true)
		if err := port.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	port, host := pairedPort(t)
	soon(port)
	if _, err := host.WriteString("ab"); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := port.Read(one); err != nil {
		t.Fatal(err)
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := port.Read(one); n != 1 || err != nil {
		t.Errorf("what was said before: %d bytes, %v", n, err)
	}
	if _, err := port.Read(one); !errors.Is(err, io.EOF) {
		t.Errorf("after it: %v, want %v", err, io.EOF)
	}
	for _, way := range []struct {
		name string
		met  func(*sys.Port, *os.File) error // Makes the port meet its host, which closes.
	}{
		{"that takes what we write", func(port *sys.Port, host *os.File) error {
			_, err := port.Write(one)
			return errors.Join(err, host.Close())
		}},
		{"that is silent", func(_ *sys.Port, host *os.File) error {
			time.AfterFunc(50*time.Millisecond, func() { _ = host.Close() }) // While it is waited for.
			return nil
		}},
	} {
		port, host := pairedPort(t)
		soon(port)
		if err := way.met(port, host); err != nil {
			t.Fatal(err)
		}
		if _, err := port.Read(one); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) { // A socket's word for unread bytes.
			t.Errorf("a host %s: %v, want %v", way.name, err, io.EOF)
		}
	}
}

// A port that has joined the poller may do so again.
func TestPortJoinsOnce(t *testing.T) {
	port, host := pairedPort(t)
	if err := errors.Join(port.Join(), port.Join()); err != nil {
		t.Fatal(err)
	}
	if _, err := host.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if n, err := port.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
}
