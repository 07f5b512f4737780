package life

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// The answer to the call that ends a server comes, however soon the server ends.
func TestLastAnswerComes(t *testing.T) {
	for range 3 {
		lastAnswer(t)
	}
}

func lastAnswer(t *testing.T) {
	t.Helper()
	callers := newConnections()
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(callers))
	if err != nil {
		t.Fatal(err)
	}
	ending := make(chan struct{})
	server.RegisterService("s", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"End": func(context.Context, func(any) error) (any, error) {
			close(ending)
			<-time.After(20 * time.Millisecond) // In which a server that does not wait has ended.
			return &emptypb.Empty{}, nil
		},
	}})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(context.Background(), l) }()
	ended := make(chan error)
	go func() {
		<-ending
		callers.wait(time.Minute)
		ended <- server.Shutdown(t.Context())
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	if err := client.Call(t.Context(), "s", "End", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Error(err)
	}
	_ = client.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConnectionsWaitNotForEver(t *testing.T) {
	c := newConnections()
	c.wait(time.Minute) // There is none.
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	if _, _, err := c.Handshake(t.Context(), ours); err == nil {
		t.Error("a connection without credentials was approved")
	}
	c.wait(time.Minute)
}
