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

// ErrNoPort is returned by FindPort if no virtio port has the name.
var ErrNoPort = errors.New("no virtio port has this name")

// FindPort returns the device of the virtio console port called name, for example
// /dev/vport2p1. The name reaches the guest some time after the port itself, so a caller
// calls again until its deadline.
func FindPort(name string) (string, error) {
	return findDevice("/sys/class/virtio-ports", "name", name, ErrNoPort)
}

// A Port is an open virtio console port. It can be open only once (EBUSY). A read of 0
// bytes means that the host has closed its end.
//
// One goroutine may read and one may write at a time. Neither waits in read(2) or
// write(2): a blocking write to such a port spins in the kernel until the host has taken
// the buffer (drivers/char/virtio_console.c, __send_to_port). They wait in Go's poller
// after Join, and in poll(2) before: during a boot only one side talks at a time, and the
// setting up of the poller would cost more than it saves.
type Port struct {
	fd   int
	name string
	late time.Time // The deadline before Join; zero is no deadline.

	f   *os.File // nil before Join.
	raw syscall.RawConn

	// The one Read and the one Write that may be under way, kept here so that they
	// allocate nothing.
	in, out  transfer
	receive  func(fd uintptr) bool
	transmit func(fd uintptr) bool

	// Patient says that a closed host end means "not yet" and not "gone". It is cleared
	// when the host has connected.
	Patient atomic.Bool
}

// OpenPort opens the device of a port.
func OpenPort(device string) (*Port, error) {
	fd, err := open(device, unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return newPort(fd, device), nil
}

func newPort(fd int, name string) *Port {
	p := &Port{fd: fd, name: name}
	p.receive, p.transmit = p.receiveNow, p.transmitNow
	return p
}

// Join makes Reads and Writes wait in the poller from now on, without a deadline. Then a
// Read and a Write may run at the same time, and deadlines may be set during them. A
// second Join changes nothing.
func (p *Port) Join() error {
	if p.f != nil {
		return nil
	}
	p.f = os.NewFile(uintptr(p.fd), p.name) // Non-blocking, so it joins the poller.
	var err error
	if p.raw, err = p.f.SyscallConn(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// absence is the pause between two polls while no host is there, in milliseconds: poll(2)
// is level triggered and would return at once.
const absence = 10

// errHostGone is the error of a write to a host that has gone.
var errHostGone = os.NewSyscallError("write port: the host has closed its end", unix.EPIPE)

// wait returns when done returns true, or when the deadline is over.
func (p *Port) wait(done func(fd uintptr) bool, event int16) error {
	for !done(uintptr(p.fd)) {
		left := -1
		if !p.late.IsZero() {
			if left = int(time.Until(p.late).Milliseconds()); left <= 0 {
				return os.ErrDeadlineExceeded
			}
		}
		ask := []unix.PollFd{{Fd: int32(p.fd), Events: event}}
		if _, err := unix.Poll(ask, left); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if ask[0].Revents&unix.POLLHUP != 0 {
			if event == unix.POLLOUT && !p.Patient.Load() {
				return errHostGone // A Read gets EOF from the kernel, after the host's last bytes.
			}
			_, _ = unix.Poll(nil, absence)
		}
	}
	return nil
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
	if t.n > 0 || t.err != nil {
		p.met() // An absent host gives no error and no bytes.
	}
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
		p.met()
		t.n += n
	}
	return true
}

// met notes that the host has connected.
func (p *Port) met() {
	if p.Patient.Load() {
		p.Patient.Store(false)
	}
}

// Read waits for bytes from the host. It returns io.EOF when the host has closed its end.
// If the port is Patient it waits for the host instead. The poller is edge triggered, so
// that wait costs no time.
func (p *Port) Read(b []byte) (int, error) {
	p.in = transfer{b: b}
	var wait error
	if p.f != nil {
		wait = p.raw.Read(p.receive)
	} else {
		wait = p.wait(p.receive, unix.POLLIN)
	}
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

// Write sends all of b; it waits while the host does not read.
func (p *Port) Write(b []byte) (int, error) {
	p.out = transfer{b: b}
	var wait error
	if p.f != nil {
		wait = p.raw.Write(p.transmit)
	} else {
		wait = p.wait(p.transmit, unix.POLLOUT)
	}
	t := p.out
	p.out.b = nil
	if wait == nil {
		wait = os.NewSyscallError("write port", t.err)
	}
	return t.n, wait
}

// HostThere reports whether the host's end is open, as far as the kernel knows. The host's
// first bytes may be read before the kernel knows. The port must have joined the poller.
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
func (p *Port) SetDeadline(t time.Time) error {
	if p.f == nil {
		p.late = t
		return nil
	}
	return p.f.SetDeadline(t)
}

// SetReadDeadline bounds every Read of a port that has joined the poller.
func (p *Port) SetReadDeadline(t time.Time) error { return p.f.SetReadDeadline(t) }

// SetWriteDeadline bounds every Write of a port that has joined the poller.
func (p *Port) SetWriteDeadline(t time.Time) error { return p.f.SetWriteDeadline(t) }

// Close closes the port.
func (p *Port) Close() error {
	if p.f == nil {
		return os.NewSyscallError("close", unix.Close(p.fd))
	}
	return p.f.Close()
}
