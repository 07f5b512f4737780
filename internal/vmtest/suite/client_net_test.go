package suite

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/agentd-go/agentd/client"
)

// clientNet is connections from inside the guest.
func clientNet(t *testing.T, g *guest) {
	t.Helper()
	t.Run("conn", func(t *testing.T) { clientConn(t, g) })
	t.Run("streams", func(t *testing.T) { clientStreams(t, g) })
	t.Run("http", func(t *testing.T) { clientHTTP(t, g) })
	t.Run("refused", func(t *testing.T) { clientRefused(t, g) })
	t.Run("unread", func(t *testing.T) { clientUnread(t, g) })
}

// clientConn joins two connections in the guest and asks of them all that package
// net promises.
//
//holds:wire 10: connected or failed once; half close in both orders; 4 MiB to a peer that writes first
func clientConn(t *testing.T, g *guest) {
	t.Helper()
	ownOnly(t, "a published one reads nothing while it writes, so that two peers that both write hang")
	g.peer(t, "join", "7001")
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		if c1, err = g.Client().Dial("tcp", "127.0.0.1:7001"); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = g.Client().Dial("tcp", "127.0.0.1:7001"); err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, nil
	})
}

// clientStreams are a hundred connections at once.
func clientStreams(t *testing.T, g *guest) {
	t.Helper()
	const streams, size = 100, 1 << 20
	g.peer(t, "echo", "7002")
	var all sync.WaitGroup
	start := time.Now()
	for i := range streams {
		all.Go(func() {
			if err := g.echo("127.0.0.1:7002", random(size, uint64(i))); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	all.Wait()
	t.Logf("%d streams of %d KiB each way: %.1f MiB/s each way", streams, size>>10, rate(streams*size, time.Since(start)))
}

// echo sends data, ends its half, and must get the same back and then the end.
func (g *guest) echo(address string, data []byte) error {
	conn, err := g.Client().DialContext(g.ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("its halves cannot be closed")
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- errors.Join(err, half.CloseWrite())
	}()
	got := sha256.New()
	if _, err := io.Copy(got, conn); err != nil {
		return err
	}
	if want := sha256.Sum256(data); !bytes.Equal(got.Sum(nil), want[:]) {
		return errors.New("other bytes came back than were sent")
	}
	return <-sent
}

// clientHTTP is a web server in the guest, as package net/http reaches it.
func clientHTTP(t *testing.T, g *guest) {
	t.Helper()
	page := random(3<<20, 9)
	dir := g.scratch(t, "/dev/shm")
	write(t, g, g.Client(), map[string]string{dir + "/page": string(page)})
	server := g.Client().Command("httpd", "-f", "-p", "127.0.0.1:7003", "-h", dir)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Kill()
		_ = server.Wait() // The signal is how it ends.
	}()
	transport := &http.Transport{DialContext: g.Client().DialContext}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport, Timeout: patience}
	for name, want := range map[string]int{"page": http.StatusOK, "missing": http.StatusNotFound} {
		body, status, err := g.fetch(web, "http://127.0.0.1:7003/"+name)
		if err != nil || status != want {
			t.Errorf("%s: status %d, %v; want %d", name, status, err, want)
		}
		if want == http.StatusOK && !bytes.Equal(body, page) {
			t.Errorf("%s: %d bytes, want %d", name, len(body), len(page))
		}
	}
}

// fetch gets a page, as soon as the server listens.
func (g *guest) fetch(web *http.Client, url string) (body []byte, status int, err error) {
	for begin := time.Now(); ; {
		req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, 0, err
		}
		resp, err := web.Do(req)
		if errors.Is(err, syscall.ECONNREFUSED) && time.Since(begin) < patience {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		body, err := io.ReadAll(resp.Body)
		return body, resp.StatusCode, errors.Join(err, resp.Body.Close())
	}
}

// clientRefused says why there is no connection.
func clientRefused(t *testing.T, g *guest) {
	t.Helper()
	_, err := g.Client().DialContext(g.ctx, "tcp", "127.0.0.1:9")
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" || op.Timeout() || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	_, err = g.Client().DialContext(g.ctx, "tcp", "no.such.name.invalid:80")
	if _, ok := errors.AsType[*net.DNSError](err); !ok {
		t.Errorf("nobody has the name: %v", err)
	}
}

// clientUnreadRaw leaves a flood unread that comes by raw records: it waits in the
// guest, for as long as nobody reads it, and nobody else feels it.
func clientUnreadRaw(t *testing.T, g *guest) {
	t.Helper()
	if g.Client().Generation() < 8 {
		t.Fatalf("generation %d", g.Client().Generation())
	}
	flood, err := g.Client().DialContext(g.ctx, "tcp", "127.0.0.1:7004")
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < client.UnreadTimeout+time.Second; {
		took, err := g.alive()
		if err != nil {
			t.Fatal(err)
		}
		if took > promptly {
			t.Errorf("a sign of life took %v", took)
		}
	}
	if n, err := io.CopyN(io.Discard, flood, 2*client.ConnLimit); err != nil {
		t.Errorf("read %d bytes, then %v", n, err)
	}
	if err := flood.Close(); err != nil {
		t.Error(err)
	}
}

// clientUnread leaves a flood unread: other sessions go on, at the latest when the
// connection has been given up.
func clientUnread(t *testing.T, g *guest) {
	t.Helper()
	ownOnly(t, "a published one reads a flood into its memory until there is none")
	g.peer(t, "flood", "7004")
	clientUnreadRaw(t, g)
	g.Client().SetBulk(client.Bulk{Off: true})
	defer g.Client().SetBulk(client.Bulk{})
	flood, err := g.Client().DialContext(g.ctx, "tcp", "127.0.0.1:7004")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flood.Close() }()
	for begin := time.Now(); time.Since(begin) < client.UnreadTimeout+time.Second; {
		start := time.Now()
		if _, err := g.alive(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > client.UnreadTimeout+promptly {
			t.Errorf("a sign of life took %v", took)
		}
	}
	n, err := io.Copy(io.Discard, flood)
	if !errors.Is(err, client.ErrUnread) || n < client.ConnLimit/2 {
		t.Errorf("read %d bytes, then %v", n, fmt.Sprint(err))
	}
}
