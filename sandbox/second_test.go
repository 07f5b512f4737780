package sandbox

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/wire"
)

// A guest's announcement must match its greeting. With neither the machine has one
// port.
//
//holds:wire 14: slips, stale records, ends
func TestSettleSecond(t *testing.T) {
	t.Parallel()
	ours, other := [16]byte{1, 2, 3}, [16]byte{4}
	hello := wire.GreetPort(ours)
	wrong := hello
	wrong[5]++
	announce := func(id [16]byte) *wire.BulkTransport {
		return &wire.BulkTransport{Profile: "dual-port-v1", Port: "agent-bulk", ConnectionID: id}
	}
	for name, tt := range map[string]struct {
		said      []byte
		announced *wire.BulkTransport
		bound     bool
		err       string
	}{
		"both":               {said: hello[:], announced: announce(ours), bound: true},
		"neither":            {},
		"bound alone":        {said: hello[:], err: "does not announce"},
		"announced alone":    {announced: announce(ours), err: "second port"},
		"another connection": {said: hello[:], announced: announce(other), err: "has bound 010203"},
		"another port":       {said: hello[:], announced: &wire.BulkTransport{Profile: "dual-port-v1", Port: "x", ConnectionID: ours}, err: `at "x"`},
		"another format":     {said: wrong[:], announced: announce(ours), err: "greeting"},
		"half a greeting":    {said: hello[:9], announced: announce(ours), err: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			s := answerSecond(near)
			if tt.said != nil {
				if _, err := far.Write(tt.said); err != nil {
					t.Fatal(err)
				}
			}
			if string(tt.said) == string(hello[:]) {
				var answer wire.PortGreeting
				if _, err := io.ReadFull(far, answer[:]); err != nil || answer != wire.AnswerPort(ours) {
					t.Fatalf("answered %x, %v", answer, err)
				}
			} else if tt.announced != nil {
				_ = far.Close() // The machine ends.
			}
			link, err := s.settle(tt.announced)
			if (link != nil) != tt.bound || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, %v; want an error with %q", link, err, tt.err)
			}
		})
	}
}

// One that the machine does not have cannot be announced.
func TestNoSecond(t *testing.T) {
	t.Parallel()
	h := &handshake{machine: &Machine{}}
	if err := h.settleSecond(&wire.Ready{}, nil); err != nil {
		t.Error(err)
	}
	if err := h.settleSecond(&wire.Ready{BulkTransport: new(wire.BulkTransport)}, nil); err == nil {
		t.Error("a port that is not there was believed")
	}
}

func TestHasSecond(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want bool
	}{
		{Config{}, false},
		{Config{Generation: 7}, false},
		{Config{Generation: 8}, true},
		{Config{Generation: 9}, true},
		{Config{Generation: 8, Configuration: ByEnvironment}, false},
		{Config{Generation: 8, Init: AutoInit}, false},
		{Config{Generation: 8, PortSocket: "/s"}, false},
	} {
		if got := tt.cfg.hasSecond(); got != tt.want {
			t.Errorf("%+v: %t", tt.cfg, got)
		}
	}
}
