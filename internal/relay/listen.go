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
	// socketMode lets only the owner connect: whoever can, is root in the guest.
	socketMode = 0o600

	// maxPath is what a socket's address holds, with a zero after it (unix(7):
	// sun_path has 108 bytes; 104 on the BSDs, which say so themselves).
	maxPath = 107

	// staleWait is for a process that listens and is too busy to accept: its queue
	// is full. One that has died refuses at once.
	staleWait = time.Second

	// entryWait is how long a new client waits for a slot whose client has left:
	// half of the 10 s that it waits for the handshake (protocol section 5.2).
	entryWait = 5 * time.Second

	// acceptPause is how long to leave an accept alone that has failed: the
	// process is out of descriptors.
	acceptPause = 100 * time.Millisecond
)

// Listen makes the socket at path, which only its owner may connect to, and takes
// the place of one that nobody listens on any more. The file goes when the
// listener is closed.
func Listen(path string) (net.Listener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	// The file gets its mode from the socket's, from the first moment on.
	config.Control = func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), socketMode) })
		return errors.Join(err, failed)
	}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("relay socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil { // Where a socket's mode is not its file's.
		return nil, errors.Join(fmt.Errorf("relay socket: %w", err), l.Close())
	}
	return l, nil
}

// CheckPath refuses a path that no socket can have.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("relay socket %s: the path has %d bytes, and a socket's at most %d: use a shorter one", path, len(path), maxPath)
	}
	return nil
}

// removeStale removes a socket that its process has left behind, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("relay socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("relay socket %s: there is something else under that name", path)
	}
	conn, err := (&net.Dialer{Timeout: staleWait}).DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // It was only to see whether anybody is there.
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
