package pod

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/agentd-go/agentd/shim/internal/pact"
)

// frame is one of ttrpc's: a length, the number of a stream, a type and flags.
func frame(length, stream uint32, kind byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(append(b, kind, 0), payload...)
}

const response = 2 // ttrpc's type of an answer.

func answerFrame(t *testing.T, r *ttrpc.Response) []byte {
	t.Helper()
	b, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return frame(uint32(len(b)), 1, response, b)
}

// Whatever a guest answers, a call ends with an error, the shim's memory stays small,
// and a machine that does not answer is killed.
func TestHostileAnswers(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	zeros := make([]byte, 1<<20)
	flood := func(w io.Writer, head, body []byte) {
		for b := append(bytes.Clone(head), body...); ; b = body {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name   string
		killed bool
		answer func(w io.WriteCloser)
	}{
		{"an end", false, func(w io.WriteCloser) { _ = w.Close() }},
		{"silence", true, func(io.WriteCloser) {}},
		{"a frame of 4 GiB", true, func(w io.WriteCloser) { flood(w, frame(0xffffffff, 1, response, nil), zeros) }},
		{"an unknown type", false, func(w io.WriteCloser) { _, _ = w.Write(frame(0, 1, 99, nil)) }},
		{"no message", false, func(w io.WriteCloser) { _, _ = w.Write(frame(4, 1, response, []byte("\xff\xff\xff\xff"))) }},
		{"half a frame", false, func(w io.WriteCloser) {
			_, _ = w.Write(frame(100, 1, response, []byte("x")))
			_ = w.Close()
		}},
		{"frames of other streams", true, func(w io.WriteCloser) { flood(w, nil, bytes.Repeat(frame(0, 7, response, nil), 1000)) }},
		{"a long error", false, func(w io.WriteCloser) {
			_, _ = w.Write(answerFrame(t, &ttrpc.Response{Status: &spb.Status{Code: 5, Message: long}}))
		}},
		{"an unknown code", false, func(w io.WriteCloser) {
			_, _ = w.Write(answerFrame(t, &ttrpc.Response{Status: &spb.Status{Code: 4242, Message: "x"}}))
		}},
		{"another message", false, func(w io.WriteCloser) {
			_, _ = w.Write(answerFrame(t, &ttrpc.Response{Payload: []byte("\x0a\xff\xff\xff\xff\x0f")}))
		}},
	} {
		t.Run(c.name, func(t *testing.T) { hostile(t, c.killed, c.answer) })
	}
}

func hostile(t *testing.T, killed bool, answer func(io.WriteCloser)) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	ended := make(chan struct{})
	g := newGuard(func() error { close(ended); return ours.Close() }, t.Logf)
	if killed { // Else a busy host takes its time.
		g.limit = 300 * time.Millisecond
	}
	rpc := ttrpc.NewClient(ours, ttrpc.WithUnaryClientInterceptor(g.intercept))
	defer func() { _ = rpc.Close() }()
	go func() {
		_, _ = io.ReadFull(theirs, make([]byte, 10))
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		answer(theirs)
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := task.NewTTRPCTaskClient(rpc).State(t.Context(), &task.StateRequest{ID: "a"})
	runtime.ReadMemStats(&after)
	err = InGuest(err)
	if err == nil || len(err.Error()) > 5000 {
		t.Errorf("error of %d bytes: %.200v", len(err.Error()), err)
	}
	if guest, ok := err.(*GuestError); ok && guest.Code > codes.Unauthenticated { //nolint:errorlint // It is not wrapped.
		t.Errorf("code %d", guest.Code)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if killed {
		<-ended
	}
	select {
	case <-ended:
		if !killed {
			t.Error("the machine was killed")
		}
	default:
	}
}

// A caller that gives up early says nothing about the guest, and a call that lasts is
// not bounded.
func TestGuardKnowsWhoGaveUp(t *testing.T) {
	g := newGuard(func() error { t.Error("killed"); return nil }, t.Logf)
	g.limit = 50 * time.Millisecond
	silent := func(ctx context.Context, _ *ttrpc.Request, _ *ttrpc.Response) error {
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.intercept(ctx, &ttrpc.Request{Method: "Kill"}, nil, nil, silent); err == nil {
		t.Error("no error")
	}
	long, cancel := context.WithTimeout(t.Context(), 4*g.limit)
	defer cancel()
	for _, method := range []string{"Wait", pact.Next} {
		if err := g.intercept(long, &ttrpc.Request{Method: method}, nil, nil, silent); err == nil {
			t.Error("no error")
		}
	}
}

// A connection for a stream that the guest never opens ends the machine, as a call without an
// answer does: who holds the pod's lock meanwhile would hold it for ever.
func TestGuardEndsWhatIsNotAnswered(t *testing.T) {
	killed := make(chan struct{})
	g := newGuard(func() error { close(killed); return nil }, t.Logf)
	g.limit = time.Millisecond
	err := g.within(t.Context(), "stream stdout", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, ErrEnded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-killed
	if err := g.within(t.Context(), "stream stdout", func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

// A container that does not end after signal 9 ends with its machine, and one that
// does costs nothing.
func TestGuardInsists(t *testing.T) {
	var kills atomic.Int32
	killed := make(chan struct{})
	end := func() error { kills.Add(1); close(killed); return nil }
	patient := newGuard(end, t.Logf)
	patient.kill = time.Hour
	done := make(chan struct{})
	patient.insist("good", done)
	close(done)
	g := newGuard(end, t.Logf)
	g.kill = time.Millisecond
	for range 3 {
		g.insist("bad", make(chan struct{}))
	}
	<-killed
	if n := kills.Load(); n != 1 {
		t.Errorf("killed %d times", n)
	}
}

// What the guest's program writes is bounded, and never stops it.
func TestGuestLog(t *testing.T) {
	lines := 0
	l := newGuestLog(func(string, ...any) { lines++ })
	for range 100 {
		if n, err := l.Write(make([]byte, 10000)); n != 10000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if most := logBytes/10000 + 2; lines != most {
		t.Errorf("%d lines, want %d", lines, most)
	}
}

// The lines that begin a stream, and that agentd-pod begins with, are bounded.
func TestHostileLines(t *testing.T) {
	for name, text := range map[string]string{
		"endless": strings.Repeat("x", 1<<20), "refusal": "no such stream\n", "nothing": "", "zeros": strings.Repeat("\x00", 1<<20),
		"a long refusal": strings.Repeat("x", pact.MaxLine-1) + "\n",
	} {
		ours, theirs := net.Pipe()
		go func() {
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			_, _ = io.WriteString(theirs, text)
			_ = theirs.Close()
		}()
		if err := askStream(ours, pact.Stream{Name: "stdout"}); err == nil || len(err.Error()) > 2*pact.MaxLine {
			t.Errorf("%s: %.100v", name, err)
		}
		_ = ours.Close()
	}
	for name, text := range map[string]string{
		"endless": `{"Error":"` + strings.Repeat("x", 1<<20), "no JSON": "ready\n", "nothing": "", "an array": "[1]", "a text for a port": `{"Control":"x"}`,
	} {
		if _, err := readReady(t.Context(), io.NopCloser(strings.NewReader(text))); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
