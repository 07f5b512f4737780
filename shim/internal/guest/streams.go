package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// open makes the pipes of a process without a terminal. Streams that nobody wants
// lead to the null device.
func (p *process) open() error {
	if p.terminal {
		return nil
	}
	for i, wanted := range p.wants {
		if !wanted {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			p.closeStreams()
			return err
		}
		if i == 0 {
			p.theirs[i], p.ours[i] = r, w
		} else {
			p.ours[i], p.theirs[i] = r, w
		}
	}
	return nil
}

// inherit gives the process its ends. A nil file must not become a reader that is
// not nil.
func (p *process) inherit(lib *libcontainer.Process) {
	if f := p.theirs[0]; f != nil {
		lib.Stdin = f
	}
	if f := p.theirs[1]; f != nil {
		lib.Stdout = f
	}
	if f := p.theirs[2]; f != nil {
		lib.Stderr = f
	}
}

func (p *process) closeTheirs() {
	for i, f := range p.theirs {
		if f != nil {
			_ = f.Close() // Nothing was written here.
			p.theirs[i] = nil
		}
	}
}

// closeStreams closes the streams that nobody has taken. A stream that was taken is closed
// by its taker.
func (p *process) closeStreams() {
	p.closeTheirs()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.ours {
		if f != nil && !p.taken[i] {
			_ = f.Close()
			p.ours[i] = nil
		}
	}
	if p.console != nil && !p.taken[1] {
		_ = p.console.Close()
	}
}

func (p *process) closeInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.ours[0]; f != nil {
		_ = f.Close()
		p.ours[0] = nil
	}
}

var streamNumbers = map[string]int{pact.Stdin: 0, pact.Stdout: 1, pact.Stderr: 2}

// take gives a stream to the one connection that carries it.
func (p *process) take(name string) (*os.File, error) {
	i, ok := streamNumbers[name]
	if !ok {
		return nil, fmt.Errorf("stream %q: want stdin, stdout or stderr", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.ours[i]
	if p.terminal && i < 2 {
		f = p.console
	}
	switch {
	case p.taken[i]:
		return nil, fmt.Errorf("stream %s: is taken", name)
	case f == nil:
		return nil, fmt.Errorf("stream %s: the process has none", name)
	}
	p.taken[i] = true
	return f, nil
}

// acceptStreams serves the port of streams.
func (s *Server) acceptStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			if tcp, ok := conn.(*net.TCPConn); ok {
				s.serveStream(tcp)
			}
		}()
	}
}

func (s *Server) serveStream(conn *net.TCPConn) {
	in := bufio.NewReaderSize(conn, pact.MaxLine)
	carry, err := s.openStream(in)
	answer := "ok"
	if err != nil {
		answer = err.Error()
	}
	if _, broken := fmt.Fprintln(conn, answer); broken != nil || err != nil {
		return
	}
	carry(in, conn)
}

// openStream reads what is wanted and returns what carries it.
func (s *Server) openStream(in *bufio.Reader) (carry func(*bufio.Reader, *net.TCPConn), err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("read which stream: %w", err)
	}
	var want pact.Stream
	if err := json.Unmarshal(line, &want); err != nil {
		return nil, fmt.Errorf("read which stream: %w", err)
	}
	if want.Name == pact.Dial {
		return dialInPod(want.Address)
	}
	_, p, err := s.process(want.Container, want.Exec)
	if err != nil {
		return nil, err
	}
	f, err := p.take(want.Name)
	if err != nil {
		return nil, err
	}
	if want.Name == pact.Stdin {
		return func(in *bufio.Reader, _ *net.TCPConn) { p.carryIn(f, in) }, nil
	}
	return func(_ *bufio.Reader, conn *net.TCPConn) { p.carryOut(conn, f) }, nil
}

// carryIn ends a process's input with the connection's. A terminal has no such end.
func (p *process) carryIn(f *os.File, in io.Reader) {
	_, _ = io.Copy(f, in) // The process has closed its input: what is left goes nowhere.
	if !p.terminal {
		p.closeInput()
	}
}

func (p *process) carryOut(conn *net.TCPConn, f *os.File) {
	_, _ = io.Copy(conn, f) // A terminal ends with EIO.
	_ = conn.CloseWrite()
	_ = f.Close()
}

// dialInPod connects to an address as the pod's containers see it.
func dialInPod(address string) (func(*bufio.Reader, *net.TCPConn), error) {
	far, err := inNamespace(pact.Net, func() (net.Conn, error) { return net.Dial("tcp", address) }) //nolint:noctx // Loopback answers at once.
	if err != nil {
		return nil, err
	}
	return func(in *bufio.Reader, conn *net.TCPConn) {
		defer func() { _ = far.Close() }()
		go func() {
			_, _ = io.Copy(far, in)
			if tcp, ok := far.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
		}()
		_, _ = io.Copy(conn, far)
	}, nil
}

// inNamespace calls f on a thread in a network namespace, which ends with it.
func inNamespace[T any](name string, f func() (T, error)) (result T, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // For ever: the thread does not come back.
		ns, failed := os.Open(name)
		if failed != nil {
			err = failed
			return
		}
		defer func() { _ = ns.Close() }()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			result, err = f()
		}
	}()
	<-done
	return result, err
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console"), nil
}

// receiveFile takes one descriptor from a socket.
func receiveFile(socket *os.File) (*os.File, error) {
	name, rights := make([]byte, pact.MaxLine), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), name, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(err, errors.New("want one descriptor"))
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // So that a Close ends a Read.
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
