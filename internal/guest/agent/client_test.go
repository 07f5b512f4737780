package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/net/nettest"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// newClient starts an agent of a generation and returns our own client of it.
func newClient(t *testing.T, g wire.Generation) *client.Client {
	t.Helper()
	nstest.Root(t)
	if err := sys.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	port, ours := link(t)
	h := &host{t: t, end: make(chan served, 1)}
	h.serve(agent.Open(port), port, config{generation: g})
	f, err := frame.NewReader(ours).Next() // The agent says nothing more until it is spoken to.
	if err != nil {
		t.Fatal(err)
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil || e.Type != wire.TypeReady {
		t.Fatalf("the first frame is %s, %v", e.Type, err)
	}
	c := client.New(&client.Greeting{Link: ours, Generation: e.Generation}, client.IDs{})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestClientFS(t *testing.T) { nstest.Run(t, func() { clientFS(t, speaks) }) }

func TestClientFSRaw(t *testing.T) { nstest.Run(t, func() { clientFS(t, eight) }) }

func clientFS(t *testing.T, g wire.Generation) {
	t.Helper()
	c, dir := newClient(t, g), "/srv/files"
	for name, data := range map[string]string{"a": "one\n", "empty": "", "d/b": "two", "d/e/c": "three"} {
		full := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(data), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("d/b", dir+"/link"), os.Symlink("d", dir+"/way")); err != nil {
		t.Fatal(err)
	}
	fsys, err := fs.Sub(c.FS().WithContext(t.Context()), dir[1:])
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(fsys, "a", "empty", "d/b", "d/e/c", "link"); err != nil {
		t.Error(err)
	}
}

func TestClientConn(t *testing.T) { nstest.Run(t, func() { clientConn(t, speaks) }) }

func TestClientConnRaw(t *testing.T) { nstest.Run(t, func() { clientConn(t, eight) }) }

func clientConn(t *testing.T, g wire.Generation) {
	t.Helper()
	c := newClient(t, g)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		defer func() { _ = l.Close() }()
		if c1, err = c.Dial("tcp", l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		c2, err = l.Accept()
		return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, err
	})
}

func TestClientRefused(t *testing.T) { nstest.Run(t, func() { clientRefused(t, speaks) }) }

func TestClientRefusedRaw(t *testing.T) { nstest.Run(t, func() { clientRefused(t, eight) }) }

func clientRefused(t *testing.T, g wire.Generation) {
	t.Helper()
	c := newClient(t, g)
	_, err := c.DialContext(t.Context(), "tcp", "127.0.0.1:9")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial a port that nobody listens on: %v", err)
	}
	t.Log(err)
	_, err = c.DialContext(t.Context(), "tcp", "no.such.name.invalid:9")
	if _, ok := errors.AsType[*net.DNSError](err); !ok {
		t.Errorf("dial a name that nobody has: %v", err)
	}
	t.Log(err)
}

func TestClientFile(t *testing.T) { nstest.Run(t, func() { clientFile(t, speaks) }) }

func TestClientFileRaw(t *testing.T) { nstest.Run(t, func() { clientFile(t, eight) }) }

func clientFile(t *testing.T, g wire.Generation) {
	t.Helper()
	c, name := newClient(t, g), "/root/f"
	var key [32]byte
	want := make([]byte, 9<<20+7)
	_, _ = rand.NewChaCha8(key).Read(want)
	f, err := c.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(f, struct{ io.Reader }{bytes.NewReader(want)}); n != int64(len(want)) || err != nil {
		t.Fatal(n, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if n, err := io.Copy(&got, f); n != int64(len(want)) || err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatal(n, err)
	}
	small := make([]byte, 1000)
	if n, err := f.ReadAt(small, int64(len(want))-500); n != 500 || !errors.Is(err, io.EOF) {
		t.Error(n, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if b, err := c.ReadFile(t.Context(), name); err != nil || !bytes.Equal(b, want) {
		t.Error(len(b), err)
	}
	if _, err := c.Open(context.Background(), name+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
