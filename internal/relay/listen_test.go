package relay_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old := syscall.Umask(0)
	l, err := relay.Listen(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := relay.Listen(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket that is in use: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the closed listener leaves its file: %v", err)
	}
}

// The socket of a process that has died is replaced; any other file is not.
func TestListenOnWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := relay.Listen(path)
	if err != nil {
		t.Fatalf("a socket that nobody listens on: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(path); string(b) != "mine" || err != nil {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestListenOnALongPath(t *testing.T) {
	dir := t.TempDir()
	for n, ok := range map[int]bool{107: true, 108: false} {
		path := filepath.Join(dir, strings.Repeat("s", n-len(dir)-1))
		l, err := relay.Listen(path)
		if ok != (err == nil) {
			t.Errorf("a path of %d bytes: %v", n, err)
		}
		if err == nil {
			_ = l.Close() // It is what was asked for.
		} else if !strings.Contains(err.Error(), "108 bytes") {
			t.Errorf("the error does not tell why: %v", err)
		}
	}
}

// On a real socket: the client too many sees the end without a byte, and the
// others the end of the relay.
func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := relay.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	left := make(chan struct{}, 1)
	go answer(t, far, left)
	r := relay.New(relay.Config{Link: near, Ready: ready(t), Words: words(t)})
	r.Serve(l)
	var clients []*peer
	for range frame.Slots {
		clients = append(clients, dial(t, path))
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); len(b) > 0 || err != nil {
		t.Errorf("the client too many: %x, %v", b, err)
	}
	// One whose place is about to be free waits for it.
	clients[5].leave()
	<-left
	late := dial(t, path)
	if late.start != clients[5].start {
		t.Errorf("got ids from %d on", late.start)
	}
	clients[5] = late
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range clients {
		c.gone()
	}
	if _, err := net.Dial("unix", path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a closed relay's socket: %v", err)
	}
}

func dial(t *testing.T, path string) *peer {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := newPeer(t, conn)
	c.greeted()
	return c
}

// answer is a guest that answers pings, and tells of clients that left.
func answer(t *testing.T, link net.Conn, left chan<- struct{}) {
	t.Helper()
	for frames := frame.NewReader(link); ; {
		f, err := frames.Next()
		if err != nil {
			return
		}
		e, err := wire.DecodeEnvelope(f.Body)
		if err != nil {
			t.Error(err)
			return
		}
		if e.Type == wire.TypeClientDisconnected {
			left <- struct{}{}
		}
		if e.Type == wire.TypePing {
			_, _ = link.Write(message(t, f.ID, &wire.Pong{})) // The relay may have ended.
		}
	}
}
