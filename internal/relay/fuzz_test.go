package relay_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/agentd-go/agentd/internal/relay"
	"github.com/agentd-go/agentd/wire/frame"
)

// FuzzClient sends a relay whatever a client may. What reaches the guest is the
// longest run of frames that the client may send, and what follows from its end.
func FuzzClient(f *testing.F) {
	f.Add(raw(1, 0, "body"))
	f.Add(append(raw(1, frame.SessionStart, "body"), raw(0, frame.Shutdown, "")...))
	f.Add(append(raw(5, 0, ""), raw(frame.Step, 0, "not mine")...))
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, input []byte) {
		near, far := net.Pipe()
		said := words(t)
		said.IsCommand = func(frame.Frame) bool { return false }
		r := relay.New(relay.Config{Link: near, Ready: ready(t), Words: said})
		conn, err := r.Connect()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		go func() {
			_, _ = conn.Write(input) // Some of it may meet a closed connection.
			_ = conn.Close()
		}()
		first, behind := frame.SlotRange(0)
		want := append(permitted(input), said.Left(first, behind, nil)...)
		want = append(want, said.Probe(behind-1)...)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the guest got %x, %v; want %x", got, err, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

// permitted is how much of a client's stream may pass.
func permitted(stream []byte) (pass []byte) {
	first, behind := frame.SlotRange(0)
	for frames := frame.NewReader(bytes.NewReader(stream)); ; {
		f, whole, err := frames.NextWhole()
		if err != nil {
			return pass
		}
		own := f.ID >= first && f.ID < behind-1 // Who uses the last one is a case of its own.
		if !own && (f.ID != 0 || f.Flags != frame.Shutdown) {
			return pass
		}
		pass = append(pass, whole...)
	}
}
