package client_test

import (
	"errors"
	"testing"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A call for which the agent has no extension says which one, and nothing is sent.
func TestExtensions(t *testing.T) {
	scriptReady(t, 7, wire.Ready{Extensions: []string{"archive", "kept"}}, func(c *client.Client, p *peer) {
		if err := c.Needs(client.ExtensionKept, "kept commands"); err != nil {
			p.t.Error(err)
		}
		err := c.Needs("watch", "watches")
		missing, ok := errors.AsType[*client.ExtensionError](err)
		if !ok || missing.Extension != "watch" || !errors.Is(err, errors.ErrUnsupported) {
			p.t.Errorf("error %v", err)
		}
	})
}
