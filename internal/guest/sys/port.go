package sys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoPort is what FindPort returns when no virtio port has the name.
var ErrNoPort = errors.New("no virtio port has this name")

// FindPort returns the device of the virtio console port called name, for
// example /dev/vport2p1. The name reaches the guest by a message of the host
// some time after the port itself, so a caller asks again until its deadline.
func FindPort(name string) (string, error) {
	const class = "/sys/class/virtio-ports"
	entries, err := os.ReadDir(class)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrNoPort, name, err)
	}
	var seen []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(class, e.Name(), "name"))
		if err != nil {
			continue // A port without a name has no such file.
		}
		if strings.TrimSpace(string(b)) == name {
			return "/dev/" + e.Name(), nil
		}
		seen = append(seen, strings.TrimSpace(string(b)))
	}
	return "", fmt.Errorf("%w: %q, there are %q", ErrNoPort, name, seen)
}

// A Port is an open virtio console port. The kernel lets one process open it
// once (EBUSY) and says the host's end is closed by a read of 0 bytes.
//
// Reads and writes wait in Go's poller, never in the kernel: a blocking write
// to such a port spins there until the host has taken the buffer
// (drivers/char/virtio_console.c, __send_to_port).
type Port struct {
	f   *os.File
	raw syscall.RawConn

	// Patient is set while a closed host end means "not yet" and not "gone".
	Patient atomic.Bool
}

// OpenPort opens the device of a port.
func OpenPort(device string) (*Port, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	return newPort(fd, device)
}

func newPort(fd int, name string) (*Port, error) {
	f := os.NewFile(uintptr(fd), name) // Non-blocking, so it joins the poller.
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Port{f: f, raw: raw}, nil
}

// Read waits for bytes from the host: io.EOF when the host has closed its end,
// unless the port is Patient, which waits for the host to come (again). The
// poller is edge triggered, so a closed end costs no time while waiting.
func (p *Port) Read(b []byte) (n int, err error) {
	wait := p.raw.Read(func(fd uintptr) bool {
		n, err = retry(func() (int, error) { return unix.Read(int(fd), b) })
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		return n != 0 || err != nil || !p.Patient.Load()
	})
	switch {
	case wait != nil:
		return 0, wait
	case err != nil:
		return 0, os.NewSyscallError("read port", err)
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write sends all of b; it waits while the host does not take it.
func (p *Port) Write(b []byte) (int, error) { return p.f.Write(b) }

// SetDeadline bounds every Read and Write; the zero time is no bound.
func (p *Port) SetDeadline(t time.Time) error { return p.f.SetDeadline(t) }

// SetReadDeadline bounds every Read.
func (p *Port) SetReadDeadline(t time.Time) error { return p.f.SetReadDeadline(t) }

// SetWriteDeadline bounds every Write.
func (p *Port) SetWriteDeadline(t time.Time) error { return p.f.SetWriteDeadline(t) }

// Close closes the port.
func (p *Port) Close() error { return p.f.Close() }
