package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// socketMode lets only the owner connect, because every client is root in the
	// guest.
	socketMode = 0o600

	// maxPath is the longest path in a socket's address, without the final NUL
	// (unix(7): sun_path has 108 bytes; 104 on the BSDs, which report it themselves).
	maxPath = 107

	// staleWait is how long to wait for a busy process whose accept queue is full. If
	// the process has died, the kernel refuses at once.
	staleWait = time.Second

	// entryWait is how long a new client waits for a slot whose client has left: half
	// of the 10 s that clients wait for the handshake (protocol section 5.2).
	entryWait = 5 * time.Second

	// acceptPause is the pause after a failed accept: the process is out of
	// descriptors.
	acceptPause = 100 * time.Millisecond
)

// Listen makes a socket at path to which only its owner may connect. It replaces a
// socket that no process listens on. Closing the listener removes the file.
func Listen(path string) (net.Listener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	// The file inherits the socket's mode, so it is never open to others.
	config.Control = func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = restrict(fd) })
		return errors.Join(err, failed)
	}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("relay socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil { // For systems where the file does not inherit the mode.
		return nil, errors.Join(fmt.Errorf("relay socket: %w", err), l.Close())
	}
	return l, nil
}

// CheckPath refuses a path that is too long for a socket.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("relay socket %s: the path has %d bytes, and a socket's at most %d: use a shorter one", path, len(path), maxPath)
	}
	return nil
}

// removeStale removes the socket of a dead process, and no other file.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("relay socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("relay socket %s: the path exists and is no socket", path)
	}
	conn, err := (&net.Dialer{Timeout: staleWait}).DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // Only tests whether a process listens.
		return fmt.Errorf("relay socket %s: another process listens on it", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("relay socket %s: %w", path, err)
	}
}

func (r *Relay) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err == nil {
			r.receive(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case <-r.done:
			return
		case <-time.After(acceptPause):
		}
	}
}
