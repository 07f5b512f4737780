package client_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A Sink gets every piece once, in the order of arrival, with its stream: small
// pieces that a stream gathers, and large ones.
func TestSinkKeepsTheOrder(t *testing.T) {
	const pieces = 300
	text := func(i int) string { return fmt.Sprint(i, ":", strings.Repeat("x", i*i%5000), "\n") }
	script(t, wire.Newest, func(c *client.Client, p *peer) {
		go func() {
			id := p.begin()
			for i := range pieces {
				if i%3 == 1 {
					p.send(id, &wire.ExecStderr{Data: []byte(text(i))})
				} else {
					p.send(id, &wire.ExecStdout{Data: []byte(text(i))})
				}
			}
			p.send(id, &wire.ExecExited{})
			p.ignore()
		}()
		cmd := c.Command("x")
		var got, want strings.Builder
		cmd.Sink = func(stderr bool, b []byte) error {
			_, err := fmt.Fprintf(&got, "%t %s", stderr, b)
			return err
		}
		for i := range pieces {
			fmt.Fprintf(&want, "%t %s", i%3 == 1, text(i))
		}
		if err := cmd.Run(); err != nil {
			p.t.Fatal(err)
		}
		if got.String() != want.String() {
			p.t.Errorf("got %d bytes, want %d", got.Len(), want.Len())
		}
		twice := c.Command("x")
		twice.Sink, twice.Stdout = cmd.Sink, &got
		if err := twice.Run(); err == nil {
			p.t.Error("a sink beside a writer is taken")
		}
	})
}
