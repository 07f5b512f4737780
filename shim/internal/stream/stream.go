// Package stream carries the three streams of a process between the guest and the
// places that containerd names for them: fifos, or addresses (binary://, file://).
//
// A fifo is open for reading and writing here, so that it neither waits for its
// other side nor ends with it: a client may go and another come. An input ends by
// [Set.CloseInput] alone; what the fifo holds by then goes in before.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime is how long CloseInput lets the rest of a fifo go to a process that may
// take none of it.
const drainTime = 10 * time.Second

// Spec says where the streams of a process end on the host; "" is nowhere.
type Spec struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
	ID, Namespace         string // Of the container, for a program that takes its output.
}

// A Set is the open streams of one process.
type Set struct {
	in      *os.File
	out     [2]io.WriteCloser // Stdout and stderr.
	process *logger

	closing sync.Once
	once    sync.Once
	inDone  chan struct{}
	copies  sync.WaitGroup
	drained chan struct{}
	closed  chan struct{}
}

// Open opens all, or none.
func Open(ctx context.Context, spec Spec) (s *Set, err error) {
	s = &Set{inDone: make(chan struct{}), drained: make(chan struct{}), closed: make(chan struct{})}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if spec.Stdin != "" {
		if s.in, err = openFIFO(spec.Stdin); err != nil {
			return s, fmt.Errorf("stdin: %w", err)
		}
	}
	return s, s.openOutputs(ctx, spec)
}

func (s *Set) openOutputs(ctx context.Context, spec Spec) (err error) {
	if scheme(spec.Stdout) == "binary" {
		s.process, err = startLogger(ctx, spec)
		if err == nil {
			s.out[0], s.out[1] = s.process.stdout, s.process.stderr
		}
		return err
	}
	if s.out[0], err = openOutput(spec.Stdout); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	if spec.Terminal {
		return nil
	}
	if s.out[1], err = openOutput(spec.Stderr); err != nil {
		return fmt.Errorf("stderr: %w", err)
	}
	return nil
}

func scheme(address string) string {
	name, _, ok := strings.Cut(address, "://")
	if !ok {
		return ""
	}
	return name
}

// openOutput opens a fifo, or what an address names. A fifo without a scheme is
// containerd's first way.
func openOutput(address string) (io.WriteCloser, error) {
	switch scheme(address) {
	case "":
		if address == "" {
			return nil, nil
		}
		return openFIFO(address)
	case "fifo":
		return openFIFO(strings.TrimPrefix(address, "fifo://"))
	case "file":
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		return os.OpenFile(u.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644) //nolint:gosec // A log, as containerd's own shim makes it.
	}
	return nil, fmt.Errorf("address %q: want a fifo, fifo://, file:// or binary://", address)
}

func openFIFO(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeNamedPipe == 0 && info.Mode()&os.ModeCharDevice == 0 {
		err = fmt.Errorf("%s: not a fifo", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// A Connector opens the guest's side of a stream: "stdin", "stdout" or "stderr".
type Connector func(name string) (net.Conn, error)

// Start connects the streams to the guest and carries them until they end.
func (s *Set) Start(connect Connector) error {
	defer func() {
		go func() {
			s.copies.Wait()
			close(s.drained)
		}()
	}()
	for i, name := range []string{"stdout", "stderr"} {
		if s.out[i] == nil {
			continue
		}
		conn, err := connect(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.copies.Go(func() { s.carryOut(s.out[i], conn) })
	}
	if s.in == nil {
		return nil
	}
	conn, err := connect("stdin")
	if err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	go s.carryIn(conn)
	return nil
}

// carryOut closes the host's side after the last byte: a client reads to that end
// before it deletes the process. The rest of an output that nobody wants any more is
// taken, so that its process does not wait for ever.
func (s *Set) carryOut(to io.WriteCloser, conn net.Conn) {
	defer func() { _ = errors.Join(to.Close(), conn.Close()) }()
	if _, err := io.Copy(to, conn); err != nil {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	awaitReader(to, s.closed)
}

func (s *Set) carryIn(conn net.Conn) {
	defer close(s.inDone)
	defer func() { _ = conn.Close() }()
	_, err := io.Copy(conn, s.in)
	if errors.Is(err, os.ErrDeadlineExceeded) { // CloseInput has come.
		err = s.carryRest(conn)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // Until the guest has closed the input.
	}
}

// carryRest takes what the fifo holds without waiting for more.
func (s *Set) carryRest(conn net.Conn) error {
	_ = s.in.SetReadDeadline(time.Time{})
	_ = conn.SetWriteDeadline(time.Now().Add(drainTime))
	raw, err := s.in.SyscallConn()
	if err != nil {
		return err
	}
	for b := make([]byte, 32<<10); ; {
		n := 0
		var failed error
		if err := raw.Read(func(fd uintptr) bool {
			n, failed = unix.Read(int(fd), b)
			return true
		}); err != nil {
			return err
		}
		if n <= 0 || failed != nil {
			return nil //nolint:nilerr // There is no more.
		}
		if _, err := conn.Write(b[:n]); err != nil {
			return err
		}
	}
}

// CloseInput ends the process's input after what the fifo holds.
func (s *Set) CloseInput() {
	s.closing.Do(func() {
		if s.in != nil {
			_ = s.in.SetReadDeadline(time.Now())
		}
	})
}

// Drained is closed when the guest has ended the outputs and all of them has been
// written.
func (s *Set) Drained() <-chan struct{} { return s.drained }

// Close closes the host's sides.
func (s *Set) Close() {
	s.once.Do(func() {
		close(s.closed)
		s.CloseInput()
		if s.in != nil {
			_ = s.in.Close()
		}
		for _, w := range s.out {
			if w != nil {
				_ = w.Close()
			}
		}
		if s.process != nil {
			s.process.wait()
		}
	})
}

// Release opens and closes what a client may be waiting at, for a process that will
// never have streams.
func Release(spec Spec) {
	for _, name := range []string{spec.Stdin, spec.Stdout, spec.Stderr} {
		if name == "" || scheme(name) != "" {
			continue
		}
		if f, err := openFIFO(name); err == nil {
			_ = f.Close()
		}
	}
}
