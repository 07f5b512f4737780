package trace_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/trace"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Every byte passes both ways, and each frame is a line.
func TestServe(t *testing.T) {
	client, near := net.Pipe()
	far, relay := net.Pipe()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- trace.New(&out).Serve(near, far) }()
	request, err := wire.AppendFrame(nil, wire.Newest, 7, &wire.ExecRequest{Cmd: "true"})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := wire.AppendFrame(nil, wire.Newest, 7, &wire.ExecStarted{PID: 42})
	if err != nil {
		t.Fatal(err)
	}
	hostile, err := frame.Append(nil, frame.Frame{ID: 7, Body: []byte("\xa3\x61v\x08\x61t\x67\x1b[2Jbad\x61p\x41\xa0")})
	if err != nil {
		t.Fatal(err)
	}
	answer = append(answer, hostile...)
	go func() {
		_, _ = relay.Write(append([]byte("12345678"), answer...))
		_, _ = client.Write(request)
	}()
	got := make([]byte, 8+len(answer))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got[8:], answer) {
		t.Errorf("the client got %q, %v", got, err)
	}
	got = make([]byte, len(request))
	if _, err := io.ReadFull(relay, got); err != nil || !bytes.Equal(got, request) {
		t.Errorf("the relay got %q, %v", got, err)
	}
	_ = client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "?[2Jbad") {
		t.Errorf("what controls a terminal: %q", out.String())
	}
	if len(lines) != 3 || !strings.Contains(out.String(), "<- id 7") || !strings.Contains(out.String(), "-> id 7 ") || !strings.Contains(out.String(), `"PID":42`) {
		t.Errorf("lines:\n%s", out.String())
	}
}

func TestDescribe(t *testing.T) {
	for _, body := range []string{"", "\xff", "\xa0"} {
		if got := trace.Describe([]byte(body)); got == "" {
			t.Errorf("%q: nothing said", body)
		}
	}
}
