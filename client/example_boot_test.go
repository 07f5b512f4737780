package client_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/agentd-go/agentd/client"
	"github.com/agentd-go/agentd/wire"
)

// A machine that another monitor has started: its agent's port is a Unix socket. The
// monitor's kernel command line configures nothing, so the handshake does.
func ExampleBoot() {
	ctx := context.Background()
	link, err := net.Dial("unix", "/run/machine/agent.sock")
	if err != nil {
		log.Print(err)
		return
	}
	c, err := client.Boot(ctx, link, client.Handshake{Bootstrap: &wire.Bootstrap{
		Hostname:        new("web"),
		SecurityProfile: wire.ProfileDefault,
	}})
	if err != nil {
		log.Print(err) // An *InitError has the agent's own words. The link is closed.
		return
	}
	defer func() { _ = c.Close() }()
	out, err := c.CommandContext(ctx, "uname", "-n").Output()
	fmt.Printf("%s%v\n", out, err)
}
