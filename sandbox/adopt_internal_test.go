package sandbox

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// What cannot outlive the process that starts a machine is refused, with the reason.
func TestCheckSurvive(t *testing.T) {
	fine := Config{Survive: "/s", Socket: "/s/socket", Files: "/s/files"}
	if err := fine.checkSurvive(); err != nil {
		t.Errorf("%v", err)
	}
	if err := (Config{}).checkSurvive(); err != nil {
		t.Errorf("%v", err)
	}
	for what, change := range map[string]func(*Config){
		"Socket":     func(c *Config) { c.Socket = "" },
		"Files":      func(c *Config) { c.Files = "" },
		"PortSocket": func(c *Config) { c.PortSocket = "/p" },
		"Taps":       func(c *Config) { c.Taps = make([]Tap, 1) },
		"Warm":       func(c *Config) { c.Warm = WarmTry },
	} {
		c := fine
		change(&c)
		if err := c.checkSurvive(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if fine.hasSecond() || fine.whyCold() == nil {
		t.Error("it has a second port, or starts from a template")
	}
}

// A new host says that all clients have gone, drops what the guest still sends for the last
// host, and keeps what comes after the guest's answer.
func TestGreetGuest(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	go func() {
		frames := frame.NewReader(theirs)
		first, err := frames.Next()
		if e, failed := wire.DecodeEnvelope(first.Body); err != nil || failed != nil || e.Type != wire.TypeClientDisconnected {
			t.Errorf("first %v, %v", e.Type, err)
		}
		probe, err := frames.Next()
		if err != nil {
			t.Errorf("%v", err)
		}
		late, old := encode(1, &wire.ExecStdout{Data: []byte("old")}), encode(probe.ID, &wire.Pong{})
		_, _ = theirs.Write(append(append(late, old...), "next"...))
		_ = theirs.Close()
	}()
	conn, err := greetGuest(t.Context(), ours, &handshake{Greeting: &client.Greeting{Generation: wire.Newest}})
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || string(rest) != "next" {
		t.Errorf("rest %q, %v", rest, err)
	}
}

// A guest that takes the first words for the last host's is not waited for without a bound.
func TestGreetGuestSilent(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := greetGuest(ctx, ours, &handshake{Greeting: &client.Greeting{Generation: wire.Newest}}); err == nil {
		t.Error("no error")
	}
	_, _ = ours.Close(), theirs.Close()
}
