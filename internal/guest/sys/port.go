package sys

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	entries, err := list(class)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrNoPort, name, err)
	}
	var seen []string
	for _, port := range entries {
		found, err := attributeOf(class + "/" + port + "/name")
		if err != nil {
			continue // A port without a name has no such file.
		}
		if found == name {
			return "/dev/" + port, nil
		}
		seen = append(seen, found)
	}
	return "", fmt.Errorf("%w: %q, there are %q", ErrNoPort, name, seen)
}

// A Port is an open virtio console port. The kernel lets one process open it
// once (EBUSY) and says the host's end is closed by a read of 0 bytes.
//
// One goroutine may read and one may write at a time. Both wait in Go's poller,
// never in the kernel: a blocking write to such a port spins there until the host
// has taken the buffer (drivers/char/virtio_console.c, __send_to_port).
type Port struct {
	f   *os.File
	raw syscall.RawConn

	// The one Read and the one Write that may be under way, kept here so that they
	// need no memory of their own.
	in, out  transfer
	receive  func(fd uintptr) bool
	transmit func(fd uintptr) bool

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
	p := &Port{f: f, raw: raw}
	p.receive, p.transmit = p.receiveNow, p.transmitNow
	return p, nil
}

// A transfer is one Read or Write.
type transfer struct {
	b   []byte
	n   int
	err error
}

// receiveNow reports whether the Read is over.
func (p *Port) receiveNow(fd uintptr) bool {
	t := &p.in
	t.n, t.err = readNow(fd, t.b)
	if errors.Is(t.err, unix.EAGAIN) {
		return false
	}
	return t.n != 0 || t.err != nil || !p.Patient.Load()
}

// transmitNow reports whether the Write is over. The kernel takes 32 KiB at most
// in one call.
func (p *Port) transmitNow(fd uintptr) bool {
	t := &p.out
	for t.n < len(t.b) {
		n, err := writeNow(fd, t.b[t.n:])
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err != nil {
			t.err = err
			return true
		}
		t.n += n
	}
	return true
}

// Read waits for bytes from the host: io.EOF when the host has closed its end,
// unless the port is Patient, which waits for the host to come (again). The
// poller is edge triggered, so a closed end costs no time while waiting.
func (p *Port) Read(b []byte) (int, error) {
	p.in = transfer{b: b}
	wait := p.raw.Read(p.receive)
	t := p.in
	p.in.b = nil
	switch {
	case wait != nil:
		return 0, wait
	case t.err != nil:
		return 0, os.NewSyscallError("read port", t.err)
	case t.n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write sends all of b; it waits while the host does not take it.
func (p *Port) Write(b []byte) (int, error) {
	p.out = transfer{b: b}
	wait := p.raw.Write(p.transmit)
	t := p.out
	p.out.b = nil
	if wait == nil {
		wait = os.NewSyscallError("write port", t.err)
	}
	return t.n, wait
}

// HostThere reports whether the host's end is open, as far as the kernel has heard.
// What the host has said may be read before that.
func (p *Port) HostThere() bool {
	there := true
	_ = p.raw.Control(func(fd uintptr) {
		ask := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(ask, 0)
		there = err != nil || n == 0 || ask[0].Revents&unix.POLLHUP == 0
	})
	return there
}

// SetDeadline bounds every Read and Write; the zero time is no bound.
func (p *Port) SetDeadline(t time.Time) error { return p.f.SetDeadline(t) }

// SetReadDeadline bounds every Read.
func (p *Port) SetReadDeadline(t time.Time) error { return p.f.SetReadDeadline(t) }

// SetWriteDeadline bounds every Write.
func (p *Port) SetWriteDeadline(t time.Time) error { return p.f.SetWriteDeadline(t) }

// Close closes the port.
func (p *Port) Close() error { return p.f.Close() }
